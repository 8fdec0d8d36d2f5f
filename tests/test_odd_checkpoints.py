"""Checkpoints that are not what they seem: converted to what transformers would load, or refused in one sentence."""

import copy
import json
import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from conversion.base import ConversionError
from conversion.convert import convert, plan_conversion
from conversion.core import Qwen2_5_VLConfig_CircleRoPE_V2, Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2
from tests.models import config_arguments, make_stock, pixels

INDEX = "model.safetensors.index.json"
QUERY = "layers.0.self_attn.q_proj.weight"


@pytest.fixture
def base(base_dir, tmp_path):
    return shutil.copytree(base_dir, tmp_path / "base")


@pytest.fixture
def sharded(base):
    (base / "model.safetensors").unlink()
    make_stock().save_pretrained(base, max_shard_size="200KB")
    return base


def edit(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def assert_refused(base, words, block=None):
    with pytest.raises(ConversionError, match=words) as caught:
        convert(base, base.parent / "out", block or {})
    assert "\n" not in str(caught.value) and not (base.parent / "out").exists()


def test_what_a_shard_holds_counts_though_the_index_does_not_name_it(sharded):
    weight_map = json.loads((sharded / INDEX).read_text())["weight_map"]
    name = next(name for name in weight_map if name.endswith(QUERY))
    edit(sharded / INDEX, weight_map={key: file for key, file in weight_map.items() if key != name})
    assert f"lacks 1 tensors of its shards, {name} among them" in "".join(plan_conversion(sharded, {}).notes)
    convert(sharded, sharded.parent / "out", {})
    assert json.loads((sharded.parent / "out" / INDEX).read_text())["weight_map"] == weight_map
    model = AutoModelForImageTextToText.from_pretrained(sharded.parent / "out", trust_remote_code=True)
    weight = model.model.language_model.layers[0].self_attn.q_proj.weight
    assert weight.equal(load_file(sharded / weight_map[name])[name])


def test_one_file_beside_shards_is_refused_with_both_names(sharded):
    save_file({"a": torch.zeros(1)}, sharded / "model.safetensors")
    assert_refused(sharded, f"has model.safetensors, which transformers would load, and {INDEX}")


def test_a_tensor_in_two_shards_is_refused(sharded):
    first, second = sorted(sharded.glob("model-*.safetensors"))[:2]
    state = load_file(first)
    save_file({**load_file(second), **dict([state.popitem()])}, second, metadata={"format": "pt"})
    assert_refused(sharded, f"in {first.name} and in {second.name}")


@pytest.mark.parametrize("is_same", [True, False])
def test_a_tied_head_with_values_of_its_own_is_refused(base, is_same):
    """Releases of 4 would tie it, those of 5 keep it."""
    edit(base / "config.json", tie_word_embeddings=True)
    state = load_file(base / "model.safetensors")
    embedding = next(state[name] for name in state if name.endswith("embed_tokens.weight"))
    state["lm_head.weight"] = embedding.clone() if is_same else embedding + 1
    save_file(state, base / "model.safetensors", metadata={"format": "pt"})
    if is_same:
        config = plan_conversion(base, {}).config
        assert config["tie_word_embeddings"] and config["text_config"]["tie_word_embeddings"]
    else:
        assert_refused(base, "lm_head.weight with other values than .*embed_tokens.weight")


def text_config(**values):
    """A change of the text config, whose rope has the newest release's form."""

    def change(config):
        text = config["text_config"]
        for key in ("rope_scaling", "rope_theta"):
            text.pop(key, None)
        text["rope_parameters"] = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
        text |= values

    return change


def rope(**values):
    return text_config(rope_parameters={"rope_theta": 1e4, **values})


def top(**values):
    return lambda config: config.update(values)


@pytest.mark.parametrize(
    "change, words",
    [
        (top(torch_dtype="torch.float32", dtype=None), "'torch.float32'"),
        (top(dtype="bfloat16"), "holds F32 tensors, but its config.json says bfloat16"),
        (rope(rope_type="nosuch", mrope_section=[2, 3, 3]), "nosuch"),
        (rope(rope_type="default", mrope_section=[2, 3, 4]), r"mrope_section \[2, 3, 4\], but .* head_dim / 2 = 8"),
        (rope(rope_type="default", mrope_section=[8]), r"mrope_section \[8\]"),
        (rope(rope_type="default"), "mrope_section None"),
        (rope(rope_type="yarn", factor=2.0), "mrope_section None"),
        (rope(rope_type="yarn", mrope_section=[2, 3, 3]), "config.json"),
        (rope(rope_type="default", type="yarn", factor=2.0, mrope_section=[2, 3, 3]), "rope_type as 'default' and as"),
        (text_config(rope_theta=5.0), "rope_theta as 10000.0 and as 5.0|rope_theta as 5.0 and as 10000.0"),
        (top(rope_scaling={"type": "yarn", "factor": 2.0}), "are the ones that count"),
        (text_config(num_hidden_layers=10**9), "num_hidden_layers 1000000000"),
        (text_config(hidden_act="nosuch"), "nosuch"),
        (text_config(rms_norm_eps=float("nan")), "is not valid JSON .*NaN"),
        (top(text_config=5), "in .*config.json, text_config is 5, but must be an object"),
        (top(text_config={}), "in .*config.json, text_config is {}, but must be an object"),
        (top(vision_config=[]), r"in .*config.json, vision_config is \[\], but must be an object"),
        (
            top(torch_dtype={"vision_config": "float32"}),
            "in .*config.json, torch_dtype is {.*}, but must be a dtype's name",
        ),
        (top(dtype="auto"), "in .*config.json, dtype is 'auto', but must be a dtype's name"),
        (top(rope_scaling="yarn"), "in .*config.json, rope_scaling is 'yarn', but must be an object"),
        (text_config(num_attention_heads="4"), r"text_config\['num_attention_heads'\] is '4', but must be a positive"),
        (top(image_token_id=400), "image_token_id 400, but it must be a token's, from 0 to 399"),
        (top(image_token_id=None), "image_token_id"),
        (top(video_token_id=190), "one id for pictures and videos"),
        (top(transformers_weights="other.safetensors"), "names 'other.safetensors' as its weights"),
        (top(quantization_config={"quant_method": "awq"}), "is quantised"),
        (top(circle_rope={"radius": 10}), "saved by stock's class"),
        (top(circle_rope={"radius": 10}, model_type="qwen2_5_vl_circle_rope_v2"), "saved by stock's class"),
        (top(model_type=["qwen2_5_vl"]), "only Qwen2.5-VL checkpoints"),
    ],
)
def test_a_config_that_cannot_work_is_refused_in_one_sentence(base, change, words):
    config = json.loads((base / "config.json").read_text())
    change(config)
    (base / "config.json").write_text(json.dumps(config))
    assert_refused(base, words)


def test_json_that_no_parser_can_follow_is_refused(base):
    (base / "config.json").write_text('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}")
    assert_refused(base, "config.json is not valid JSON")


def test_yarn_that_an_older_release_wrote_twice_converts(base):
    """Releases 4.52 to 4.57 keep it at the top as well, where those of 5 cannot read it."""
    yarn = {"type": "yarn", "rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 256}
    config = json.loads((base / "config.json").read_text())
    text_config()(config)
    del config["text_config"]["rope_parameters"]
    twice = {"rope_scaling": {**yarn, "mrope_section": [2, 3, 3]}, "rope_theta": 10000.0}
    config["text_config"] |= twice
    (base / "config.json").write_text(json.dumps({**config, **twice, "max_position_embeddings": 512}))
    convert(base, base.parent / "out", {})
    model = AutoModelForImageTextToText.from_pretrained(base.parent / "out", trust_remote_code=True)
    arguments = config_arguments()
    arguments["text_config"]["rope_scaling"] = {**yarn, "mrope_section": [2, 3, 3]}
    stock = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**arguments))
    ours, its = (m.model.language_model.rotary_emb for m in (model, stock))
    assert ours.inv_freq.equal(its.inv_freq) and ours.attention_scaling == its.attention_scaling > 1


@pytest.mark.parametrize("model_type", ["qwen2_5_vl", "qwen2_5_vl_circle_rope_v2"])
def test_what_stock_saved_from_a_converted_checkpoint_converts_when_its_block_is_given(base, model_type):
    edit(base / "config.json", circle_rope={"radius": 3, "alpha": 1}, model_type=model_type)
    plan = plan_conversion(base, {"radius": 5})
    assert plan.config["circle_rope"]["radius"] == 5 and plan.config["circle_rope"]["alpha"] == 0.5
    assert not plan.is_own  # its card says that it is not fine-tuned
    assert all(reference.endswith("V2") for reference in plan.config["auto_map"].values())


@pytest.mark.parametrize("theta", [0, -1, False, 1e-300])
def test_a_rope_whose_frequencies_are_no_numbers_is_refused(base, theta):
    config = json.loads((base / "config.json").read_text())
    text_config()(config)
    config["text_config"]["rope_parameters"]["rope_theta"] = theta
    (base / "config.json").write_text(json.dumps(config))
    words = rf"in .*config.json, .*\['rope_theta'\] is {theta}, but must be a number > 0"
    if theta == 1e-300:
        words = "config.json describes a model whose values are not finite: correct its rope"
    assert_refused(base, words)


ODD = [None, True, False, -1, 0, 1, 2, 3, 7, 16, 64, 10**6, 0.5, -1.5, 1e30, "", "x", "yarn", "linear", "dynamic"]
ODD += ["llama3", "mrope", "default", "silu", "float32", [], [2, 3, 3], [8], [4, 4], {}, {"rope_type": "yarn"}]


def run(config):
    """A prompt with a picture through the whole model that a config.json makes."""
    config = Qwen2_5_VLConfig_CircleRoPE_V2.from_dict(copy.deepcopy(config))
    model = Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2(config).eval()
    picture, video = config.image_token_id, config.video_token_id
    text = [token for token in range(10) if token not in (picture, video)][:5]
    grid = [[1, 4, 6]]
    ids = torch.tensor([[*text, *[picture] * 6, *text]])
    with torch.no_grad():
        return model(input_ids=ids, pixel_values=pixels(grid), image_grid_thw=torch.tensor(grid)).logits


@settings(max_examples=100)
@given(data=st.data())
def test_any_config_is_refused_in_one_sentence_or_runs(base_dir, tmp_path_factory, data):
    directory = tmp_path_factory.mktemp("odd")
    (directory / "model.safetensors").symlink_to(base_dir / "model.safetensors")
    config = json.loads((base_dir / "config.json").read_text())
    text_config()(config)
    for _ in range(data.draw(st.integers(1, 2))):
        part = data.draw(
            st.sampled_from([(), ("text_config",), ("text_config", "rope_parameters"), ("vision_config",)])
        )
        place = config
        for key in part:
            place = place.get(key) if isinstance(place, dict) else None
        if not isinstance(place, dict):
            continue
        more = ["head_dim", "rope_scaling", "rope_theta", "torch_dtype", "circle_rope", "type", "factor"]
        key = data.draw(st.sampled_from(sorted({*place, *more})))
        if data.draw(st.booleans()):
            place[key] = data.draw(st.sampled_from(ODD))
        else:
            place.pop(key, None)
    (directory / "config.json").write_text(json.dumps(config))
    try:
        plan = plan_conversion(directory, {})
    except ConversionError as error:
        assert "\n" not in str(error)
        return
    assert torch.isfinite(run(plan.config)).all()
