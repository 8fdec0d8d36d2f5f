"""Loading and saving: each layout of tensor names, each Auto class, Circle-RoPE V1, nothing missing or left over."""

import json
import os
from pathlib import Path

import pytest
import torch
import transformers
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    Qwen2_5_VLModel,
)

from configuration_qwen2_5_vl_circle_rope import Qwen2_5_VLConfig_CircleRoPE_V2
from conversion.convert import convert
from modeling_qwen2_5_vl_circle_rope import (
    OLD_LAYOUT,
    Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2,
    Qwen2_5_VLModel_AGE_V2,
    Qwen2_5_VLModel_CircleRoPE_V2,
    new_name,
)
from tests.models import (
    AutoModelForVision,
    for_stock,
    load_whole,
    make_config,
    make_stock,
    old_name,
    one_image,
    read_tensors,
    write_layout,
)

BLOCK = {"radius": 6, "alpha": 0.25, "AGE_mode": "strategy_4"}


def assert_weights(model, state):
    wanted = {new_name(name): tensor for name, tensor in state.items()}
    own = model.state_dict()
    assert own.keys() == wanted.keys()
    assert all(torch.equal(own[name], wanted[name]) for name in own)


# Checkpoints that other releases saved, one directory each, where the test command made them.
SAVED_BY_OTHERS = sorted(Path(os.environ["STOCK_CHECKPOINTS"]).iterdir()) if "STOCK_CHECKPOINTS" in os.environ else []


@pytest.fixture(params=[None, *SAVED_BY_OTHERS], ids=lambda path: path.name if path else "this release")
def saved(request, base_dir):
    return request.param or base_dir


@pytest.mark.parametrize("sharded", [False, True], ids=["single file", "sharded"])
@pytest.mark.parametrize("layout", ["old", "new"])
def test_official_checkpoints_load_by_hand(saved, tmp_path, layout, sharded):
    directory = write_layout(saved, tmp_path / "official", layout, sharded)
    config = Qwen2_5_VLConfig_CircleRoPE_V2.from_pretrained(directory)
    config.circle_rope = BLOCK
    model = load_whole(Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2, directory, config=config)
    assert type(model.model) is Qwen2_5_VLModel_AGE_V2 and model.model.geometries[0].radius == 6
    assert_weights(model, read_tensors(directory))


@pytest.mark.parametrize("sharded", [False, True], ids=["single file", "sharded"])
@pytest.mark.parametrize("layout", ["old", "new"])
def test_converted_checkpoints_load_through_every_auto_class(saved, tmp_path, layout, sharded):
    directory = write_layout(saved, tmp_path / "official", layout, sharded)
    output = tmp_path / "converted"
    convert(directory, output, BLOCK)
    for cls in (AutoModelForVision, AutoModelForImageTextToText, AutoModelForCausalLM):
        model = load_whole(cls, output, trust_remote_code=True)
        assert type(model).__name__ == "Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2"
        assert_weights(model, read_tensors(directory))
    assert type(AutoProcessor.from_pretrained(output, trust_remote_code=True)).__name__ == "Qwen2_5_VLProcessor"


def test_checkpoints_as_this_release_saves_them_load_unchanged(saved, tmp_path):
    convert(saved, tmp_path / "converted", BLOCK)
    model = load_whole(AutoModelForVision, tmp_path / "converted", trust_remote_code=True)
    inputs = one_image()
    expected = make_stock()
    expected.load_state_dict({new_name(name): tensor for name, tensor in read_tensors(saved).items()})
    mrope = Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2(make_config({"AGE_mode": ["mrope"] * 4})).eval()
    mrope.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(mrope(**inputs).logits, expected(**for_stock(inputs, expected)).logits)


@pytest.mark.parametrize("layout", ["old", "new"])
def test_auto_model_loads_what_stock_loads(base_dir, tmp_path, layout):
    directory = write_layout(base_dir, tmp_path / "official", layout, False)
    convert(directory, tmp_path / "converted", {**BLOCK})
    model, info = AutoModel.from_pretrained(tmp_path / "converted", trust_remote_code=True, output_loading_info=True)
    assert type(model).__name__ == "Qwen2_5_VLModel_AGE_V2"
    assert not info["missing_keys"] and not info["mismatched_keys"]
    assert set(info["unexpected_keys"]) <= {"lm_head.weight"}
    state = {new_name(name): tensor for name, tensor in read_tensors(directory).items()}
    assert all(torch.equal(tensor, state[f"model.{name}"]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("sharded", [False, True], ids=["single file", "sharded"])
def test_names_that_zero3_doubles_are_read_and_not_written(base_dir, tmp_path, sharded):
    """Stock under ZeRO-3 on 5.23 and 5.24 saves `model.model.layers.0...` beside `visual...`."""

    def doubled(name):
        old = old_name(name)
        return f"model.{old}" if old.startswith("model.") else old

    directory, state = write_layout(base_dir, tmp_path / "doubled", doubled, sharded), read_tensors(base_dir)
    config = Qwen2_5_VLConfig_CircleRoPE_V2.from_pretrained(directory)
    model = load_whole(Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2, directory, config=config)
    assert_weights(model, state)
    headless = Qwen2_5_VLModel_CircleRoPE_V2.from_pretrained(directory, config=config).state_dict()
    assert all(torch.equal(tensor, model.state_dict()[f"model.{name}"]) for name, tensor in headless.items())
    official = {old_name(new_name(name)): tensor for name, tensor in state.items()}
    model.save_pretrained(tmp_path / "saved")
    before = read_tensors(directory)
    convert(directory, tmp_path / "converted", BLOCK)
    for written in (read_tensors(tmp_path / "saved"), read_tensors(tmp_path / "converted")):
        assert written.keys() == official.keys()
        assert all(torch.equal(written[name], official[name]) for name in official)
    assert read_tensors(directory).keys() == before.keys()
    load_whole(AutoModelForVision, tmp_path / "converted", trust_remote_code=True)


@pytest.mark.parametrize("block", [None, BLOCK], ids=["circle", "age"])
def test_saved_models_load_again(tmp_path, block):
    model = Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2(make_config(block)).eval()
    model.save_pretrained(tmp_path / "saved", max_shard_size="100KB")
    again = load_whole(AutoModelForVision, tmp_path / "saved", trust_remote_code=True)
    assert again.config.circle_rope == (block or {})
    inputs = one_image()
    with torch.no_grad():
        assert torch.equal(again(**inputs).logits, model(**inputs).logits)
    again.save_pretrained(tmp_path / "again")
    third = load_whole(AutoModelForVision, tmp_path / "again", trust_remote_code=True)
    assert third.config.circle_rope == (block or {})
    assert (tmp_path / "again" / "circle_rope_imp.py").exists()


@pytest.mark.parametrize("rename", [old_name, lambda name: name])
def test_a_state_dict_loads_under_either_names(stock, rename):
    """As Trainer does when it resumes from a checkpoint, without a word where nothing fits."""
    model = Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2(make_config(BLOCK))
    state = {rename(name): tensor for name, tensor in stock.state_dict().items()}
    assert model.load_state_dict(dict(state)) == ([], [])
    assert all(torch.equal(tensor, stock.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_saved_checkpoints_keep_the_official_names(tmp_path):
    """Other engines know those."""
    Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2(make_config()).save_pretrained(tmp_path / "ours")
    make_stock().save_pretrained(tmp_path / "stock")
    assert read_tensors(tmp_path / "ours").keys() == read_tensors(tmp_path / "stock").keys()


@pytest.mark.parametrize("cls", [Qwen2_5_VLModel_CircleRoPE_V2, Qwen2_5_VLModel_AGE_V2])
def test_the_headless_model_saves_and_loads(tmp_path, cls):
    model = cls(make_config(BLOCK if cls is Qwen2_5_VLModel_AGE_V2 else None))
    model.save_pretrained(tmp_path)
    again = load_whole(AutoModel, tmp_path, trust_remote_code=True)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values()))


def test_a_block_can_be_given_when_loading(base_dir, tmp_path):
    convert(base_dir, tmp_path / "converted", BLOCK)
    model = load_whole(AutoModelForVision, tmp_path / "converted", trust_remote_code=True, circle_rope={"radius": 3})
    assert model.model.geometries[0].radius == 3 and len(model.model.geometries) == 1


def v1_config(base_dir, block, model_type):
    """A flat config.json as V1 and transformers 4.49 wrote it."""
    config = make_config().to_dict()
    arguments = {
        "image_token_id": 190,
        "video_token_id": 191,
        "vision_start_token_id": 192,
        "vision_end_token_id": 193,
    }
    from tests.models import config_arguments

    text = config_arguments()["text_config"]
    return {
        **text,
        **arguments,
        "architectures": ["Qwen2_5_VLForConditionalGeneration_CircleRoPE"],
        "model_type": model_type,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "vision_config": {
            key: value
            for key, value in config["vision_config"].items()
            if key in config_arguments()["vision_config"] or key == "spatial_merge_size"
        },
        "circle_rope": block,
    }


@pytest.fixture(params=["qwen2_5_vl_circle_rope", "qwen2_5_vl"])
def v1_dir(request, base_dir, tmp_path):
    directory = write_layout(base_dir, tmp_path / "v1", "old", False)
    config = v1_config(base_dir, {"radius": 10, "alpha": 0.5, "AGE_mode": "strategy_4"}, request.param)
    (directory / "config.json").write_text(json.dumps(config))
    return directory


def test_v1_checkpoints_load_with_v1s_defaults(v1_dir):
    model = load_whole(Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2, v1_dir)
    assert model.config.circle_rope == {
        "move_to_origin": False,
        "radius": 10,
        "alpha": 0.5,
        "AGE_mode": "strategy_4",
    }
    assert_weights(model, read_tensors(v1_dir))


def test_v1_checkpoints_convert(v1_dir, tmp_path):
    convert(v1_dir, tmp_path / "converted", {})
    model = load_whole(AutoModelForVision, tmp_path / "converted", trust_remote_code=True)
    assert model.config.circle_rope["move_to_origin"] is False
    assert model.config.text_config.num_hidden_layers == 4
    assert_weights(model, read_tensors(v1_dir))


@pytest.mark.parametrize("key", ["radius", "alpha"])
def test_v1_configs_without_radius_or_alpha_are_refused(v1_dir, key):
    config = json.loads((v1_dir / "config.json").read_text())
    del config["circle_rope"][key]
    (v1_dir / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=f"no {key} .*-1"):
        Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2.from_pretrained(v1_dir)


def test_a_load_that_is_partial_on_purpose_goes_through(base_dir, tmp_path):
    convert(base_dir, tmp_path / "converted", BLOCK)
    cls = Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2
    empty = cls.from_pretrained(None, config=make_config(BLOCK), state_dict={})
    assert empty.model.schedule == make_config(BLOCK).schedule
    config = make_config(BLOCK)
    config.text_config.vocab_size = 500
    wider = cls.from_pretrained(tmp_path / "converted", config=config, ignore_mismatched_sizes=True)
    assert wider.get_input_embeddings().weight.shape == (500, 64)


def test_a_checkpoint_that_lacks_a_tensor_is_refused(base_dir, tmp_path):
    convert(base_dir, tmp_path / "converted", BLOCK)
    name = "model.language_model.layers.1.self_attn.q_proj.weight"
    directory = write_layout(tmp_path / "converted", tmp_path / "lacking", lambda key: "x" if key == name else key)
    with pytest.raises(ValueError, match=f"it lacks 1 tensors of the model's .{name} is one"):
        load_whole(AutoModelForVision, directory, trust_remote_code=True)


def test_stock_classes_stay_as_they_are(stock):
    """Importing the repo changes nothing for the stock classes."""
    assert type(stock.model) is Qwen2_5_VLModel
    assert transformers.Qwen2_5_VLConfig.model_type == "qwen2_5_vl"
    assert dict(OLD_LAYOUT).keys() == {"^visual", r"^model(?!\.(language_model|visual))"}
