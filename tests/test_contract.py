"""What must hold on every transformers release: `tests/run.sh` runs this file on the newest patch of every minor.

The tests are few, so that all releases together take minutes; the other files say more, on some releases.
"""

import copy
import json
import logging
import os
import warnings
from pathlib import Path

import pytest
import torch
import transformers
from PIL import Image
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    DynamicCache,
    Qwen2_5_VLForConditionalGeneration,
    pipeline,
)

from configuration_qwen2_5_vl_circle_rope import MARK, Qwen2_5_VLConfig_CircleRoPE_V2
from conversion.convert import convert
from modeling_qwen2_5_vl_circle_rope import Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2, find_cache, new_name
from tests.models import (
    GREEDY,
    NAMES_OF_THE_CACHE,
    ROOT,
    ROPES,
    VIDEO,
    AutoModelForVision,
    image_batch,
    load_whole,
    make_config,
    make_model,
    pad,
    picture,
    read_tensors,
    text,
    video_batch,
    with_images,
    with_videos,
    write_layout,
)

BLOCKS = {
    "circle": None,
    "strategy_4": {"AGE_mode": "strategy_4"},
    "a list": {"AGE_mode": ["mrope", "circle", "circle", "mrope"], "radius": 3},
}
EVERY_AUTO_CLASS = (AutoModelForVision, AutoModelForImageTextToText, AutoModelForCausalLM)
HAS_MULTIMODAL = hasattr(transformers, "AutoModelForMultimodalLM")  # releases of 5
if HAS_MULTIMODAL:
    EVERY_AUTO_CLASS += (transformers.AutoModelForMultimodalLM,)


@pytest.fixture(scope="module", params=BLOCKS)
def model(stock, request):
    return make_model(stock, BLOCKS[request.param])


@pytest.fixture(scope="module")
def converted(base_dir, tmp_path_factory):
    output = tmp_path_factory.mktemp("checkpoint") / "converted"
    convert(base_dir, output, BLOCKS["strategy_4"])
    return output


# Loading and saving


@pytest.mark.parametrize("layout", ["old", "new", "ours"])
def test_every_layout_loads_whole_through_every_auto_class(base_dir, converted, tmp_path, layout):
    directory = tmp_path / "checkpoint"
    if layout == "ours":
        load_whole(AutoModelForVision, converted, trust_remote_code=True).save_pretrained(directory)
    else:
        write_layout(converted, directory, layout)
    state = {new_name(name): tensor for name, tensor in read_tensors(base_dir).items()}
    for cls in EVERY_AUTO_CLASS:
        own = load_whole(cls, directory, trust_remote_code=True).state_dict()
        assert own.keys() == state.keys() and all(torch.equal(own[name], state[name]) for name in own)
    headless, info = AutoModel.from_pretrained(directory, trust_remote_code=True, output_loading_info=True)
    assert not info["missing_keys"] and set(info["unexpected_keys"]) <= {"lm_head.weight"}
    assert all(torch.equal(tensor, state[f"model.{name}"]) for name, tensor in headless.state_dict().items())


@torch.no_grad()
def test_the_root_is_a_checkpoint_that_answers():
    model = load_whole(AutoModelForVision, ROOT, trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(ROOT, trust_remote_code=True)
    content = [{"type": "image"}, {"type": "text", "text": "Where is the red circle?"}]
    prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    inputs = processor(text=[prompt], images=[Image.open(ROOT / "examples" / "shapes.png")], return_tensors="pt")
    answer = model.generate(**inputs, max_new_tokens=8)[0, inputs["input_ids"].shape[1] :]
    assert processor.decode(answer, skip_special_tokens=True) == "top right"


@pytest.mark.skipif(not HAS_MULTIMODAL, reason="this release has no pipeline of that name")
def test_the_root_answers_in_the_pipeline_that_stock_is_in():
    answer = pipeline("any-to-any", model=str(ROOT), trust_remote_code=True)
    picture = {"type": "image", "image": Image.open(ROOT / "examples" / "shapes.png").convert("RGB")}
    content = [picture, {"type": "text", "text": "Where is the red circle?"}]
    said = answer(text=[{"role": "user", "content": content}], max_new_tokens=8, return_full_text=False)
    assert said[0]["generated_text"] == "top right"


def test_a_checkpoint_whose_names_do_not_fit_is_refused(converted, tmp_path):
    directory = write_layout(converted, tmp_path / "checkpoint", lambda name: f"other.{name}")
    with pytest.raises(ValueError, match="does not fit .* by its tensors' names: .* key_mapping"):
        AutoModelForVision.from_pretrained(directory, trust_remote_code=True)


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_a_config_survives_saving_and_loading(tmp_path, block):
    config = make_config(block)
    config.save_pretrained(tmp_path)
    again = Qwen2_5_VLConfig_CircleRoPE_V2.from_pretrained(tmp_path)
    assert again.circle_rope == (block or {}) and again.schedule == config.schedule
    assert again.text_config.to_dict() == config.text_config.to_dict()
    assert again.vision_config.to_dict() == config.vision_config.to_dict()


def written_configs():
    """config.json files with every rope type, as the releases wrote them that `tests/run.sh` has prepared."""
    prepared = os.environ.get("STOCK_CHECKPOINTS")
    return sorted(Path(prepared).glob("*/configs/*.json")) if prepared else []


def test_a_config_of_any_release_means_the_same_frequencies(tmp_path):
    files = written_configs()
    for file in files:
        saved = json.loads(file.read_text())
        rope = rotary_of(Qwen2_5_VLConfig_CircleRoPE_V2.from_dict(saved["config"]))
        expected = torch.tensor(saved["inv_freq"]), saved["attention_scaling"]
        torch.testing.assert_close(rope.inv_freq, expected[0], rtol=1e-6, atol=0, msg=str(file))
        assert rope.attention_scaling == pytest.approx(expected[1], rel=1e-6), file
    for name, scaling in ROPES.items():
        config = make_config(rope_scaling=scaling)
        config.save_pretrained(tmp_path / name)
        again = Qwen2_5_VLConfig_CircleRoPE_V2.from_pretrained(tmp_path / name)
        assert torch.equal(rotary_of(again).inv_freq, rotary_of(config).inv_freq)


def rotary_of(config):
    with torch.device("cpu"):
        return Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2(config).model.language_model.rotary_emb


# A reader that does not know Circle-RoPE


def test_the_stock_class_refuses_our_checkpoints_with_advice(converted):
    for directory in (converted, ROOT):
        with pytest.raises(KeyError, match="circle_rope, which needs .*trust_remote_code=True"):
            Qwen2_5_VLForConditionalGeneration.from_pretrained(directory)


def test_the_stock_class_refuses_our_config_with_advice(converted):
    config = Qwen2_5_VLConfig_CircleRoPE_V2.from_pretrained(converted)
    with pytest.raises(KeyError, match="circle_rope, which needs .*trust_remote_code=True"):
        Qwen2_5_VLForConditionalGeneration.from_pretrained(converted, config=config)


def test_a_checkpoint_without_the_mark_loads_and_is_marked_when_it_is_saved(stock, converted, tmp_path):
    config = json.loads((converted / "config.json").read_text())
    inputs = image_batch()
    for file in ("rope_parameters", "rope_scaling"):
        directory = write_layout(converted, tmp_path / file, "old")
        rope = config["text_config"][file]
        plain = {key: value for key, value in rope.items() if key not in ("stands_for", "rope_theta")}
        text_config = {key: value for key, value in config["text_config"].items() if not key.startswith("rope_")}
        theta = {"rope_theta": rope["rope_theta"]}
        plain |= {"rope_type": rope["stands_for"], **(theta if file == "rope_parameters" else {})}
        unmarked = {**config, "text_config": {**text_config, **theta, file: plain}}
        (directory / "config.json").write_text(json.dumps(unmarked))
        model = load_whole(AutoModelForVision, directory, trust_remote_code=True)
        with torch.no_grad():
            expected = make_model(stock, BLOCKS["strategy_4"])(**inputs).logits
            assert torch.equal(model(**inputs).logits, expected)
        model.save_pretrained(tmp_path / f"{file} again")
        saved = json.loads((tmp_path / f"{file} again" / "config.json").read_text())["text_config"]
        assert saved["rope_parameters"]["rope_type"] == saved["rope_scaling"]["rope_type"] == MARK


# Decoding


def whole(inputs, ids):
    """The inputs of a full forward over a longer sequence."""
    mask = inputs["attention_mask"]
    new = mask.new_ones(mask.shape[0], ids.shape[1] - mask.shape[1])
    return {**inputs, "input_ids": ids, "attention_mask": torch.cat([mask, new], 1)}


def close(given, expected):
    torch.testing.assert_close(given, expected, atol=1e-4, rtol=0)


def video_turn():
    grid = [2, 4, 4]
    return with_videos([text(3) + picture(grid, VIDEO) + text(4)], [grid], [1.5])


def image_turn():
    grid = [1, 4, 6]
    return with_images([text(3) + picture(grid) + text(4)], [grid])


@pytest.mark.parametrize("make_inputs", [image_batch, video_batch])
@torch.no_grad()
def test_generate_and_a_loop_by_hand_equal_the_full_forward(model, make_inputs):
    inputs = make_inputs()
    options = {**GREEDY, "max_new_tokens": 4, "min_new_tokens": 4}
    result = model.generate(**inputs, **options, output_logits=True)
    full = whole(inputs, result.sequences)
    logits = model(**full).logits
    prompt = inputs["input_ids"].shape[1]
    for step, given in enumerate(result.logits):
        close(given, logits[:, prompt - 1 + step])
    for name in NAMES_OF_THE_CACHE:
        output = model(**inputs, use_cache=True)
        for slot in range(prompt, result.sequences.shape[1]):
            output = model(
                input_ids=result.sequences[:, slot : slot + 1],
                attention_mask=full["attention_mask"][:, : slot + 1],
                use_cache=True,
                **{name: find_cache(output)},
            )
            close(output.logits[:, -1], logits[:, slot])


@pytest.mark.parametrize("second", [image_turn, video_turn, lambda: pad([text(5)])], ids=["image", "video", "text"])
@pytest.mark.parametrize("first", [image_turn, video_turn], ids=["image", "video"])
@torch.no_grad()
def test_a_second_turn_over_a_cache_equals_the_full_forward(model, first, second):
    inputs, new = first(), second()
    options = {**GREEDY, "max_new_tokens": 3, "min_new_tokens": 3}
    earlier = model.generate(**inputs, **options)
    ids = torch.cat([earlier.sequences, new["input_ids"]], 1)
    conversation = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    for key in (inputs.keys() | new.keys()) - conversation.keys():
        conversation[key] = torch.cat([part[key] for part in (inputs, new) if key in part])
    model.generate(**image_batch(), max_new_tokens=2)  # somebody else's in between
    cache = find_cache(earlier)
    held = cache.get_seq_length()
    by_hand = model(
        **{**new, "input_ids": ids[:, held:], "attention_mask": None},
        **{NAMES_OF_THE_CACHE[-1]: copy.deepcopy(cache)},
        use_cache=True,
    )
    result = model.generate(**conversation, **{NAMES_OF_THE_CACHE[-1]: cache}, **options, output_logits=True)
    logits = model(**whole(conversation, result.sequences)).logits
    close(by_hand.logits, logits[:, held : ids.shape[1]])
    for step, given in enumerate(result.logits):
        close(given, logits[:, ids.shape[1] - 1 + step])


@torch.no_grad()
def test_a_cache_that_others_filled_holds_text(model):
    ids = torch.tensor([text(6)])
    filled = find_cache(model.model.language_model(input_ids=ids, use_cache=True))
    cache = DynamicCache()
    for number, layer in enumerate(filled.layers):
        cache.update(layer.keys, layer.values, number)
    model.generate(**image_batch(), max_new_tokens=2)
    new = image_turn()
    given = model(**{**new, "attention_mask": None}, **{NAMES_OF_THE_CACHE[-1]: cache}, use_cache=True).logits
    expected = model(**{**new, "input_ids": torch.cat([ids, new["input_ids"]], 1), "attention_mask": None}).logits
    close(given, expected[:, 6:])


@torch.no_grad()
def test_text_is_bit_identical_to_stock(stock, model):
    ids = torch.tensor([text(9), text(9)])
    assert torch.equal(model(ids).logits, stock(ids).logits)
    options = {"max_new_tokens": 3, "do_sample": False, "output_logits": True, "return_dict_in_generate": True}
    padded = pad([text(5), text(9)])
    given, expected = model.generate(**padded, **options), stock.generate(**padded, **options)
    assert all(torch.equal(a, b) for a, b in zip(given.logits, expected.logits))


# Corners that fail without a word


LAST = NAMES_OF_THE_CACHE[-1]


@torch.no_grad()
def test_pads_fed_one_by_one_count_nothing(model):
    inputs, turn = image_batch(), pad([text(3), text(1)], "right")
    mask = torch.cat([inputs["attention_mask"], turn["attention_mask"], torch.ones(2, 1, dtype=torch.long)], 1)
    ids = torch.cat([inputs["input_ids"], turn["input_ids"], torch.tensor([[7], [8]])], 1)
    output = model(**inputs, use_cache=True)
    for slot in range(ids.shape[1] - 4, ids.shape[1]):
        seen = {"input_ids": ids[:, slot : slot + 1], "attention_mask": mask[:, : slot + 1]}
        output = model(**seen, use_cache=True, **{LAST: find_cache(output)})
    close(output.logits[:, -1], model(**{**inputs, "input_ids": ids, "attention_mask": mask}).logits[:, -1])


@torch.no_grad()
def test_given_positions_of_a_prompt_are_taken(model):
    ids = torch.tensor([text(8)])
    positions = torch.arange(0, 16, 2).expand(3, 1, -1)
    result = model.generate(input_ids=ids, position_ids=positions, **GREEDY, max_new_tokens=3, output_logits=True)
    longer = torch.cat([positions, torch.arange(15, 18).expand(3, 1, -1)], -1)[..., : result.sequences.shape[1]]
    logits = model(input_ids=result.sequences, position_ids=longer).logits
    for step, given in enumerate(result.logits):
        close(given, logits[:, 7 + step])


@torch.no_grad()
def test_nothing_is_shared_between_calls(stock, model):
    ids = torch.tensor([text(9)])
    stock.model.rope_deltas = None  # some releases' stock class goes on from an earlier call's
    expected = stock(ids).logits
    model(**image_batch())
    model.model.rope_deltas = torch.full((2, len(model.model.geometries)), -5.0)  # as another thread leaves it
    assert torch.equal(model(inputs_embeds=model.get_input_embeddings()(ids)).logits, expected)


@torch.no_grad()
def test_a_cache_of_other_geometries_is_refused(stock, model):
    other = make_model(stock, {"radius": 7})
    cache = find_cache(other(**image_turn(), use_cache=True))
    with pytest.raises(ValueError, match="filled under other geometries"):
        model(input_ids=torch.tensor([[7]]), **{LAST: cache})


@pytest.mark.parametrize("second", [image_turn, lambda: pad([text(5)])], ids=["image", "text"])
@pytest.mark.parametrize("helper", ["prompt lookup", "assistant"])
@torch.no_grad()
def test_assisted_decoding_goes_on_behind_a_cache(stock, model, helper, second):
    options = {**GREEDY, "max_new_tokens": 4, "suppress_tokens": [*GREEDY["suppress_tokens"], 2]}
    first, new = image_turn(), second()
    earlier = model.generate(**first, **options)
    ids = torch.cat([earlier.sequences, new["input_ids"]], 1)
    conversation = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    for key in ("pixel_values", "image_grid_thw"):
        conversation[key] = torch.cat([part[key] for part in (first, new) if key in part])
    cache, extra = find_cache(earlier), {"prompt_lookup_num_tokens": 3}
    extra = extra if helper == "prompt lookup" else {"assistant_model": stock}
    expected = model.generate(**conversation, **options, **{LAST: copy.deepcopy(cache)})
    given = model.generate(**conversation, **options, **{LAST: cache}, **extra)
    assert torch.equal(given.sequences, expected.sequences)


# What is said


def said(action, caplog):
    """The warnings of an action, those that are logged included, without the names of classes."""
    caplog.clear()
    logging.getLogger("transformers").addHandler(caplog.handler)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        action()
    logging.getLogger("transformers").removeHandler(caplog.handler)
    texts = [str(warning.message) for warning in caught]
    texts += [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    return {words.replace("_CircleRoPE_V2", "") for words in texts}


def test_nothing_is_said_that_stock_does_not_say(base_dir, converted, caplog):
    inputs = image_turn()

    def use(cls, directory, **kwargs):
        model = cls.from_pretrained(directory, **kwargs).eval()
        options = {"max_new_tokens": 2, "do_sample": False, "return_dict_in_generate": True}
        first = model.generate(**inputs, **options)
        ids = torch.cat([first.sequences, torch.tensor([text(4)])], 1)
        cache = {NAMES_OF_THE_CACHE[-1]: find_cache(first)}
        model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **cache, **options)
        output = model(**inputs, use_cache=True)
        model(input_ids=ids[:, -1:], use_cache=True, **{NAMES_OF_THE_CACHE[-1]: find_cache(output)})
        model.save_pretrained(directory.parent / "saved again")

    ours = said(lambda: use(AutoModelForImageTextToText, converted, trust_remote_code=True), caplog)
    text_only = said(lambda: use_of_stock(base_dir), caplog)
    assert ours <= text_only


def use_of_stock(base_dir):
    """What `use` does, with text alone, which every release's stock class can do."""
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(base_dir).eval()
    ids = torch.tensor([text(9)])
    model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=2, do_sample=False)
    output = model(input_ids=ids, use_cache=True)
    model(input_ids=ids[:, -1:], use_cache=True, **{NAMES_OF_THE_CACHE[-1]: find_cache(output)})
    model.save_pretrained(base_dir.parent / "saved again")
