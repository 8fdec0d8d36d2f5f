"""Models that share weights, positions, and attention, without a page."""

import json
import os
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch


@pytest.fixture(scope="module")
def media():
    from limits import open_media
    from samples import EXAMPLES

    return open_media(EXAMPLES[0].files)


QUESTION = "Where is the red circle?"


def block(geometry="strategy_4", radius=None, alpha=None, dff_rate=None):
    import model

    return model.make_block(geometry, radius, alpha, dff_rate)


def test_views_share_every_weight_and_nothing_else():
    import model

    view = model.view(block("mrope"))
    own, theirs = dict(model.MODEL.named_parameters()), dict(view.named_parameters())
    assert own.keys() == theirs.keys()
    assert all(own[name].data_ptr() == theirs[name].data_ptr() for name in own)
    for (name, buffer), (_, other) in zip(model.MODEL.named_buffers(), view.named_buffers(), strict=True):
        assert torch.equal(buffer, other), name
    assert view.config is not model.MODEL.config and model.MODEL.config.schedule != view.config.schedule


def test_a_view_of_the_own_block_computes_what_the_model_computes(media):
    import model

    inputs = model.prepare(media, [], QUESTION)
    with torch.inference_mode():
        expected = model.MODEL(**inputs).logits
        assert torch.equal(model.view(dict(model.OWN_BLOCK))(**inputs).logits, expected)
        assert not torch.allclose(model.view(block("mrope"))(**inputs).logits, expected)


def test_closing_the_stream_ends_the_generation(media):
    import model

    before = set(threading.enumerate())
    answers = model.answer(model.prepare(media, [], QUESTION), block(), 512, temperature=2.0)
    next(answers)
    answers.close()
    assert set(threading.enumerate()) <= before


def test_an_error_in_the_generation_reaches_whoever_reads(media, monkeypatch):
    import model

    monkeypatch.setattr(model, "_sampling", lambda temperature: {"num_beams": -1})
    with pytest.raises(ValueError):
        list(model.answer(model.prepare(media, [], QUESTION), block(), 8))


def test_positions_are_those_of_get_rope_index(media):
    import model
    import positions

    settings = block("strategy_4", radius=7, alpha=0.3, dff_rate=0.2)
    inputs = model.prepare(media, [("What?", "That.")], QUESTION)
    expected, _ = model.view(settings).model.get_rope_index(inputs["input_ids"], inputs["image_grid_thw"])
    layout = positions.lay_out(inputs)
    places = positions.place(layout, settings)
    np.testing.assert_array_equal(places["circle"], expected[:3, 0].numpy())
    np.testing.assert_array_equal(places["mrope"], expected[3:, 0].numpy())


def test_logits_are_those_of_the_models_own_rotary_embedding(media):
    import model
    import positions

    layout = positions.lay_out(model.prepare(media, [], QUESTION))
    rotary = model.MODEL.model.language_model.rotary_emb
    for rows in positions.place(layout, block()).values():
        shown = positions.logits(layout, rows)
        slots = [layout.word, *range(layout.frames[0].slots.start, layout.frames[0].slots.stop)]
        q, k = torch.randn(2, 20_000, 1, 32, generator=torch.Generator().manual_seed(0))
        random, same = (
            _turn(vectors[0], rows[:, slots[:1]], rotary) @ _turn(vectors[1], rows[:, slots[1:]], rotary).mT / 32**0.5
            for vectors in ((q, k.expand(-1, 16, -1)), (torch.ones(1, 1, 32), torch.ones(1, 16, 32)))
        )
        np.testing.assert_allclose(shown.logits, same[0, 0], atol=1e-4)
        assert shown.spread == pytest.approx(random.var(-1, correction=0).mean().sqrt().item(), rel=0.02)


def _turn(vectors, rows, rotary):
    """Queries or keys `(draws, tokens, head_dim)` at positions `(3, tokens)`."""
    from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as upstream

    cos, sin = rotary(vectors, torch.from_numpy(rows)[:, None])
    flat = vectors[None]
    if hasattr(upstream, "apply_multimodal_rotary_pos_emb"):
        return upstream.apply_multimodal_rotary_pos_emb(flat, flat, cos, sin, [4, 6, 6])[0][0]
    return upstream.apply_rotary_pos_emb(flat, flat, cos, sin)[0][0]


def test_the_frames_of_a_video_are_laid_out_one_by_one():
    import limits
    import model
    import positions
    from samples import EXAMPLES

    layout = positions.lay_out(model.prepare(limits.open_media(EXAMPLES[-1].files), [], QUESTION))
    assert [frame.step for frame in layout.frames] == [1, 2]
    assert sum(frame.rows * frame.columns for frame in layout.frames) == layout.is_vision.sum()
    assert layout.is_vision[layout.frames[0].slots].all() and layout.is_vision[layout.frames[1].slots].all()


def test_attention_is_that_of_an_eager_forward(media):
    import model

    inputs = model.prepare(media, [], QUESTION)
    (seen,) = model.attend(inputs, [block()], 8)
    # The mean, and one map for each token of the answer.
    assert seen.text == "top right" and seen.weights.shape == (6, 4, 1 + len(seen.tokens), 16)
    assert "".join(seen.tokens).startswith("top right")
    np.testing.assert_allclose(seen.weights[:, :, 0], seen.weights[:, :, 1:].mean(2), atol=1e-3)
    eager = model.view(block(), "eager")
    with torch.inference_mode():
        step = eager.generate(
            **inputs, max_new_tokens=1, do_sample=False, output_attentions=True, return_dict_in_generate=True
        )
    is_image = inputs["input_ids"][0] == model.MODEL.config.image_token_id
    first = torch.stack([layer[0, :, -1, is_image] for layer in step.attentions[0]])
    np.testing.assert_allclose(seen.weights[:, :, 1], first.numpy(), atol=1e-3)


@pytest.mark.parametrize("kind", ["missing", "stock"])
def test_a_model_that_cannot_be_used_ends_the_start_with_a_sentence(kind, pushed, tmp_path):
    directory = tmp_path / kind
    if kind == "stock":
        shutil.copytree(pushed / "tiny", directory)
        config = json.loads((directory / "config.json").read_text())
        for key in ("auto_map", "circle_rope", "architectures"):
            del config[key]
        (directory / "config.json").write_text(json.dumps(config | {"model_type": "qwen2_5_vl"}))
    command = [sys.executable, str(pushed / "app.py")]
    result = subprocess.run(command, env={**os.environ, "MODEL_ID": str(directory)}, capture_output=True, text=True)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert result.stderr.splitlines()[-1].startswith(f"error: MODEL_ID {directory} ")


def test_a_schedule_and_a_radius_that_are_no_slider_stay_the_models_own(run, pushed, tmp_path):
    """A model with a list for AGE_mode and "auto" for radius: both are offered, and are the default."""
    from gradio_client import Client, handle_file

    shutil.copytree(pushed / "tiny", tmp_path / "listed")
    config = json.loads((tmp_path / "listed" / "config.json").read_text())
    config["circle_rope"] |= {"AGE_mode": ["circle"] * 5 + ["mrope"], "radius": "auto-2"}
    (tmp_path / "listed" / "config.json").write_text(json.dumps(config))
    with run(pushed / "app.py", MODEL_ID=str(tmp_path / "listed")) as space:
        entries = Client(space.url, verbose=False).predict(
            pictures=[handle_file(str(pushed / "examples" / "shapes_1.png"))], question=QUESTION, api_name="/compare"
        )
    assert [entry["geometry"] for entry in entries if entry["trained"]] == ["own"]
    assert next(entry["layers"] for entry in entries if entry["trained"]) == ["circle"] * 5 + ["mrope"]
