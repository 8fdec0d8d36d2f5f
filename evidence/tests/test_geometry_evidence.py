"""The logit spread is what its definition says, and the geometry command writes it down or says why it cannot."""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from circle_rope_imp import CircleGeometry, MRopeGeometry, per_token_distance
from evidence.geometry import __main__ as geometry
from evidence.geometry import candidates, measurements, tables, trained
from evidence.geometry.layouts import MAIN, FlattenedGeometry, place
from evidence.geometry.spread import (
    Rope,
    expected_variance,
    logit_differences,
    logit_spread,
    logit_spreads,
    logits,
)
from shapes.checkpoint import model_config, save_processor

ROOT = Path(__file__).resolve().parents[2]
QWEN, INTERLEAVED = Rope.of(), Rope.of(sections="interleaved")
SMALL = {"--grids": ("2x2", "3x5"), "--draws": ("8",), "--pictures": ("1",)}
GRIDS = st.tuples(st.integers(1, 12), st.integers(1, 12)).filter(lambda grid: grid != (1, 1))
exact = settings(deadline=None, derandomize=True, max_examples=20)


def run(folder, *arguments, **options):
    given = [word for option, words in {**SMALL, **options}.items() for word in (option, *words)]
    command = [sys.executable, "-m", "evidence.geometry", "--output", folder, *given, *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, cwd=ROOT, env=environment)


def call(folder, *arguments):
    """The same in this process, which has loaded torch already; returns the sentence it ends with, if any."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["evidence.geometry", "--output", str(folder), *map(str, arguments)])
        try:
            geometry.main()
        except SystemExit as end:
            return end.code


def assert_refused(done, *words):
    assert done.returncode not in (0, None)
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert all(word in done.stderr for word in words), done.stderr


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The folder of a small run of the command, with the tiny checkpoint."""
    folder = tmp_path_factory.mktemp("results")
    done = run(folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_spreads_known_from_before_are_found_again():
    """The known numbers came from few draws: they are met to a tenth."""
    known = {
        "flattened": (0.59, 0.66),
        "M-RoPE": (0.025, 0.059),
        "shared index": (0, 0),
        "circle R 1": (0.12, 0.11),
        "circle R 5": (0.29, 0.28),
        "circle R 10": (0.36, 0.34),
    }
    for layout, values in known.items():
        for side, value in zip((16, 36), values):
            text, image = place(MAIN[layout], side, side, text_tokens=64)
            assert logit_spread(text, image, QWEN, draws=512) == pytest.approx(value, rel=0.1, abs=1e-6), layout


@exact
@given(GRIDS, st.sampled_from(list(MAIN)), st.integers(0, 2000))
def test_the_spread_is_the_standard_deviation_of_the_models_logits(grid, layout, behind):
    text, image = place(MAIN[layout], *grid, text_tokens=3, behind=behind)
    q, k = torch.randn(2, 4, 1, 128, generator=torch.Generator().manual_seed(behind))
    plain = logits(q.expand(-1, 3, -1), k.expand(-1, image.shape[1], -1), text, image, QWEN)
    assert torch.allclose(logit_spreads(q, k, text, image, QWEN), plain.std(-1, correction=0), atol=2e-5)


def test_the_logits_are_those_of_the_models_attention():
    """A layer's attention weights are the softmax of the logits that are measured here."""
    model, processor = trained.load(str(ROOT / "tiny"))
    model.set_attn_implementation("eager")
    queries, keys, grid = trained.read_picture(model, processor, random.Random(0))
    attention = []
    layer = model.model.language_model.layers[0].self_attn
    layer.register_forward_hook(lambda module, args, output: attention.append(output[1]))
    trained.read_picture(model, processor, random.Random(0))
    text, image = place(model.config.make_geometry("circle"), *grid, text_tokens=queries.shape[-2])
    expected = logits(queries[0], keys[0], text, image, Rope(model.config.text_config)).softmax(-1)
    start = attention[0].shape[-1] - queries.shape[-2] - image.shape[1]
    over_image = attention[0][0, :, -queries.shape[-2] :, start : start + image.shape[1]]
    assert torch.allclose(expected, over_image / over_image.sum(-1, keepdim=True), atol=1e-5)


@exact
@given(GRIDS, st.floats(0.1, 30), st.floats(0, 1))
def test_the_exact_variance_is_half_the_mean_squared_difference_of_two_tokens(grid, radius, alpha):
    _, image = place(CircleGeometry(radius, alpha), *grid, text_tokens=1)
    variance = expected_variance(image, QWEN)
    assert variance.sum().item() == pytest.approx(logit_differences(image, QWEN).square().mean().item() / 2, rel=1e-6)
    assert variance.max() <= 1 / 64 + 1e-9


def test_random_draws_tend_to_the_exact_variance_at_any_distance():
    q, k = torch.randn(2, 4096, 1, 128)
    for behind in (0, 1000):
        text, image = place(CircleGeometry(), 8, 8, text_tokens=4, behind=behind)
        mean = logit_spreads(q, k, text, image, QWEN).square().mean().item()
        assert mean == pytest.approx(expected_variance(image, QWEN).sum().item(), rel=0.05)


def test_the_sections_parts_add_up_to_the_variance():
    _, image = place(CircleGeometry(), 6, 9, text_tokens=1)
    parts = [expected_variance(image, QWEN)[QWEN.pairs(section)].sum() for section in "thw"]
    assert [QWEN.pairs(section).sum().item() for section in "thw"] == [16, 24, 24]
    assert sum(parts).item() == pytest.approx(expected_variance(image, QWEN).sum().item())
    assert parts[0] > 0.98 * sum(parts)


def test_interleaved_sections_give_high_frequencies_to_every_axis():
    """The values are those of a review of this repo, made with other code."""
    assert [INTERLEAVED.pairs(section).sum().item() for section in "thw"] == [24, 20, 20]
    for layout, expected in ((MRopeGeometry(), 0.300), (CircleGeometry(), 0.388)):
        _, image = place(layout, 16, 16, text_tokens=1)
        assert expected_variance(image, INTERLEAVED).sum().sqrt().item() == pytest.approx(expected, abs=5e-4)
        parts = [expected_variance(image, INTERLEAVED)[INTERLEAVED.pairs(section)].sum().item() for section in "hw"]
        assert 0.8 < parts[0] / parts[1] < 1.25


def test_sections_mean_nothing_where_all_rows_are_the_same():
    text, image = place(FlattenedGeometry(), 5, 7)
    assert expected_variance(image, INTERLEAVED).sum().item() == pytest.approx(
        expected_variance(image, QWEN).sum().item()
    )
    assert sorted(expected_variance(image, INTERLEAVED).tolist()) == pytest.approx(
        sorted(expected_variance(image, QWEN).tolist())
    )


@exact
@given(st.floats(0.1, 10), st.floats(0.1, 10))
def test_the_spread_is_proportional_to_the_sizes_of_q_and_k(a, b):
    text, image = place(MRopeGeometry(), 5, 5, text_tokens=2)
    q, k = torch.randn(2, 4, 1, 128)
    scaled = logit_spreads(a * q, b * k, text, image, QWEN)
    assert torch.allclose(scaled, a * b * logit_spreads(q, k, text, image, QWEN), rtol=1e-3, atol=1e-5)


def test_the_same_seed_gives_the_same_spread_and_another_seed_another():
    places = place(CircleGeometry(), 4, 4)
    assert logit_spread(*places, QWEN, draws=16) == logit_spread(*places, QWEN, draws=16)
    assert logit_spread(*places, QWEN, draws=16) != logit_spread(*places, QWEN, draws=16, seed=1)


def test_one_token_has_no_spread():
    with pytest.raises(ValueError, match="one token"):
        logit_spread(*place(CircleGeometry(), 1, 1), QWEN)


def test_flattened_has_the_papers_per_token_distance():
    """The paper counts on one row, where 9 tokens have 2.22; three equal rows make it sqrt(3) times as large."""
    text, image = place(FlattenedGeometry(), 3, 3, text_tokens=5)
    assert per_token_distance(text, image).item() == pytest.approx(20 / 9 * 3**0.5, abs=1e-3)
    assert per_token_distance(text[:1], image[:1]).item() == pytest.approx(20 / 9, abs=1e-3)


@exact
@given(GRIDS, st.floats(5, 350), st.sampled_from(["extreme", "zero"]))
def test_an_arc_keeps_the_per_token_distance_at_0(grid, width, at):
    text, image = place(candidates.ArcGeometry(radius=10, width=width, at=at), *grid)
    assert per_token_distance(text, image).item() < 1e-4


def test_a_whole_turn_is_the_ring_and_an_arc_where_t_is_extreme_spreads_less():
    whole = candidates.ArcGeometry(width=360, at="zero").frame(4, 6)
    assert torch.allclose(whole, -CircleGeometry().frame(4, 6), atol=1e-9)  # the arc's middle is the ring's far side
    arcs = [candidates.ArcGeometry(width=60, at=at) for at in ("extreme", "zero")]
    extreme, zero = (logit_spread(*place(arc, 8, 8), QWEN, draws=64) for arc in arcs)
    assert extreme < zero / 4


def test_age_is_the_mean_over_layers():
    measure = measurements.Measure("Qwen2.5-VL", 32, 0)
    circle, mrope = (measure("x", "", geometry, (6, 6)) for geometry in (CircleGeometry(), MRopeGeometry()))
    age = measure("x", "", measurements.AGE["strategy_4"], (6, 6))
    assert len(measurements.AGE["strategy_4"]) == 36
    for key in ("spread", "ptd"):
        assert age[key] == pytest.approx((circle[key] + mrope[key]) / 2)


def test_the_command_writes_whole_results_tables_and_figures(results):
    written = json.loads((results / "geometry.json").read_text())
    assert {"seed", "draws", "torch", "transformers", "python", "seconds"} <= written["about"].keys()
    assert [row["grid"] for row in written["rows"] if row["series"] == "grid"][:: len(MAIN) + 1] == [[2, 2], [3, 5]]
    assert written["checkpoint"]["layers"] == 6 and written["checkpoint"]["grid"] == [4, 4]
    made = tables.tables(written)
    page = (results / "geometry.md").read_text()
    assert all(table in page and table.startswith("| ") for table in made.values())
    figures = {path.name for path in (results / "figures").iterdir()}
    assert figures == {"cone.png", "spread_by_grid.png"}
    assert {path.name for path in results.iterdir()} == {"geometry.json", "geometry.md", "figures"}


def test_the_same_results_give_the_same_figures(results, tmp_path):
    folder = shutil.copytree(results, tmp_path / "again")
    before = (folder / "figures" / "spread_by_grid.png").read_bytes()
    (folder / "figures" / "spread_by_grid.png").unlink()
    call(folder, "--redraw")
    assert (folder / "figures" / "spread_by_grid.png").read_bytes() == before
    assert (folder / "geometry.json").read_bytes() == (results / "geometry.json").read_bytes()


def test_the_committed_results_are_whole_and_their_tables_are_theirs():
    committed = tables.load_results(ROOT / "evidence" / "results" / "geometry.json")
    assert (ROOT / "evidence" / "results" / "geometry.md").read_text() == tables.page(committed)


def test_a_stock_checkpoint_is_measured_too(tmp_path):
    processor = save_processor(tmp_path)
    arguments = {key: value for key, value in model_config(processor, {}).items() if key != "circle_rope"}
    Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**arguments)).save_pretrained(tmp_path)
    measured = trained.measure(str(tmp_path), [(3, 4)], [0], pictures=1, seed=0)
    assert measured["kind"] == "qwen2_5_vl" and set(measured["schedule"]) == {"mrope"}
    spreads = {entry["layout"]: entry["identical"] for entry in measured["spreads"] if entry["grid"] == [3, 4]}
    assert min(spreads["circle R 10"]) > max(spreads["M-RoPE"]) > 0


def test_what_a_checkpoint_lacks_is_named(tmp_path):
    from safetensors.torch import load_file, save_file

    broken = shutil.copytree(ROOT / "tiny", tmp_path / "broken")
    tensors = load_file(broken / "model.safetensors")
    del tensors[next(name for name in tensors if "layers.3.self_attn.q_proj.weight" in name)]
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="lacks 1 tensors"):
        trained.load(str(broken))


def test_a_checkpoint_of_another_kind_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    sentence = call(tmp_path / "out", "--checkpoint", tmp_path, "--pictures", 1)
    assert sentence.startswith(f"error: {tmp_path} is a checkpoint of the kind 'bert'") and "\n" not in sentence
    assert not (tmp_path / "out" / "geometry.json").exists()


@pytest.mark.parametrize("damage", ["none", "no config", "cut off"])
def test_a_checkpoint_that_cannot_be_loaded_is_refused(damage, tmp_path):
    checkpoint = tmp_path / "checkpoint"
    if damage != "none":
        shutil.copytree(ROOT / "tiny", checkpoint)
    if damage == "no config":
        (checkpoint / "config.json").unlink()
    if damage == "cut off":
        weights = checkpoint / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(ValueError, match="checkpoint") as refusal:
        trained.load(str(checkpoint))
    assert "\n" not in str(refusal.value)


def test_a_checkpoint_that_makes_one_token_of_a_picture_is_refused(tmp_path):
    checkpoint = shutil.copytree(ROOT / "tiny", tmp_path / "checkpoint")
    config = json.loads((checkpoint / "processor_config.json").read_text())
    config["image_processor"]["size"] = {"shortest_edge": 28**2, "longest_edge": 28**2}
    (checkpoint / "processor_config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="one token"):
        trained.measure(str(checkpoint), [], [0], pictures=1, seed=0)


def test_a_grid_of_one_token_is_refused(tmp_path):
    assert_refused(run(tmp_path, **{"--grids": ("2x2", "1x1")}), "one token")


@pytest.mark.parametrize(
    "arguments",
    ["--grids 16", "--grids 0x4", "--grids 4xfour", "--grids 4x-4", "--grids 2x2x2", "--draws 0", "--pictures -1"],
)
def test_what_is_not_allowed_is_refused_before_any_work(arguments, tmp_path):
    sentence = call(tmp_path / "out", *arguments.split())
    assert sentence.startswith(f"error: {arguments} is not") and "\n" not in sentence
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    assert_refused(run(tmp_path / "file" / "out"), "file")


@pytest.mark.parametrize("damage", ["none", "cut off", "part", "format", "list"])
def test_broken_results_are_refused_and_left_alone(damage, results, tmp_path):
    whole = (results / "geometry.json").read_text()
    part = {key: value for key, value in json.loads(whole).items() if key != "checkpoint"}
    broken = {
        "cut off": whole[: len(whole) // 2],
        "part": json.dumps(part),
        "format": whole.replace(f'"format": {tables.FORMAT}', '"format": 99'),
        "list": "[1]",
    }
    if damage != "none":
        (tmp_path / "geometry.json").write_text(broken[damage])
    sentence = call(tmp_path, "--redraw")
    assert sentence.startswith("error: ") and "geometry.json" in sentence and "\n" not in sentence
    assert {path.name for path in tmp_path.iterdir()} == ({"geometry.json"} if damage != "none" else set())
