"""The circle_rope block: what it allows, what it means, and that it survives every round trip."""

import json
import math
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig

from circle_rope_imp import CircleGeometry
from configuration_qwen2_5_vl_circle_rope import (
    AUTO_MAP,
    MARK,
    V1_MODEL_TYPE,
    Qwen2_5_VLConfig_CircleRoPE_V2,
    age_schedule,
    plain_rope,
    read_rope,
)
from tests.models import config_arguments, make_config, make_model

LONG_BLOCK = {
    "circle_r": "auto-2",
    "alpha": 0.25,
    "method": "circle",
    "move_to_origin": True,
    "move_to_positive": "auto",
    "dff_rate": 0.1,
    "AGE_mode": ["circle", "mrope", "mrope", "circle"],
    "image_stride": 2,
    "mrope_section": [4, 2, 2],
}


@pytest.mark.parametrize("block", [None, {}], ids=str)
def test_no_block_means_the_defaults(block):
    geometry = make_config(block).make_geometry("circle")
    assert vars(geometry) == {
        "radius": 10,
        "alpha": 0.5,
        "method": "circle",
        "move_to_origin": True,
        "move_to_positive": False,
        "dff_rate": False,
        "image_stride": 0,
    }
    assert make_config(block).schedule == ("circle",) * 4


@pytest.mark.parametrize(
    "block, words",
    [
        ({"radiu": 10}, "unknown key 'radiu'.*'radius'"),
        ({"AGE": None}, "unknown key 'AGE'.*'AGE_mode'"),
        ({"circle_radius": 1}, "unknown key 'circle_radius'"),
        ({"radius": -1}, "'radius'.*-1.*number >= 0"),
        ({"radius": "auto-"}, "'radius'.*auto-k"),
        ({"radius": "wide"}, "'radius'.*auto-k"),
        ({"radius": math.nan}, "'radius'.*nan"),
        ({"radius": math.inf}, "'radius'.*inf"),
        ({"radius": 10**400}, "'radius'.*1000.*number >= 0"),
        ({"radius": 1e39}, "'radius'.*1e\\+39.*number >= 0"),
        ({"radius": "auto-" + "9" * 400}, "'radius'.*auto-999.*auto-k"),
        ({"alpha": 10**400}, "'alpha'.*1000.*0 to 1"),
        ({"move_to_positive": -(10**400)}, "'move_to_positive'.*-1000.*or a number"),
        ({"image_stride": 10**400}, "'image_stride'.*1000.*number >= 0"),
        ({"base": 10**400}, "'base'.*1000.*number > 1"),
        ({"mrope_section": [10**400, 1, 1]}, "'mrope_section'.*1000.*3 positive integers"),
        ({"radius": True}, "'radius'.*True"),
        ({"radius": None}, "'radius'.*None"),
        ({"circle_r": -3}, "'circle_r'.*-3"),
        ({"radius": 10, "circle_r": 5}, "radius 10 and circle_r 5"),
        ({"alpha": 1.5}, "'alpha'.*1.5.*0 to 1"),
        ({"alpha": "0.5"}, "'alpha'.*'0.5'"),
        ({"method": "square"}, '\'method\'.*"circle" or "no_circle"'),
        ({"move_to_origin": 1}, "'move_to_origin'.*true or false"),
        ({"move_to_positive": True}, "'move_to_positive'.*True"),
        ({"move_to_positive": "5"}, "'move_to_positive'.*'5'"),
        ({"dff_rate": True}, "'dff_rate'.*True"),
        ({"dff_rate": 1.01}, "'dff_rate'.*1.01"),
        ({"AGE_mode": "strategy_5"}, "'AGE_mode'.*strategy_5.*strategy_1"),
        ({"AGE_mode": ["circle"] * 3}, "AGE_mode.*3 entries.*4 layers"),
        ({"AGE_mode": ["circle", "mrope", "grid", "circle"]}, "AGE_mode.*'grid'"),
        ({"image_stride": -1}, "'image_stride'.*-1"),
        ({"base": 1}, "'base'.*number > 1"),
        ({"mrope_section": [16, 24, 24]}, "mrope_section.*sum is 64.*head_dim / 2 = 8"),
        ({"mrope_section": [4, 4]}, "'mrope_section'.*3 positive integers"),
        ({"mrope_section": [8, 0, 0]}, "'mrope_section'.*3 positive integers"),
        ([10, 0.5], "must be an object"),
    ],
    ids=str,
)
def test_a_wrong_block_is_refused_in_one_sentence(block, words):
    for assign in (lambda: make_config(block), lambda: setattr(make_config(), "circle_rope", block)):
        with pytest.raises(ValueError, match=words) as error:
            assign()
        assert "\n" not in str(error.value)


TEXT, VISION = "text_config", "vision_config"


@pytest.mark.parametrize(
    "part, values, words",
    [
        (
            None,
            {"torch_dtype": {"text_config": "bfloat16"}},
            "torch_dtype is {'text_config': 'bfloat16'}, but must be",
        ),
        (None, {"dtype": "auto"}, "dtype is 'auto', but must be a dtype's name"),
        (TEXT, {"dtype": 16}, r"text_config\['dtype'\] is 16, .*dtype"),
        (None, {"rope_scaling": "yarn"}, "rope_scaling is 'yarn', but must be an object"),
        (TEXT, {"rope_scaling": "yarn"}, r"text_config\['rope_scaling'\] is 'yarn'"),
        (TEXT, {"rope_parameters": ["yarn"]}, r"text_config\['rope_parameters'\] is \['yarn'\]"),
        (TEXT, {"rope_scaling": {"type": 5}}, r"text_config\['rope_scaling'\]\['type'\] is 5, but must be a name"),
        (TEXT, {"rope_scaling": {"type": "yarn", "factor": "4"}}, r"\['factor'\] is '4', but must be a number > 0"),
        (TEXT, {"rope_scaling": {"type": "mrope", "mrope_section": "16"}}, r"\['mrope_section'\] is '16'"),
        (TEXT, {"rope_theta": -1.0}, r"text_config\['rope_theta'\] is -1.0, but must be a number > 0"),
        (None, {"text_config": {}}, "text_config is {}, but must be an object .* with keys"),
        (None, {"text_config": []}, r"text_config is \[\]"),
        (None, {"vision_config": "base"}, "vision_config is 'base'"),
        (TEXT, {"hidden_size": None}, r"text_config\['hidden_size'\] is None, but must be a positive integer"),
        (TEXT, {"hidden_size": 64.0}, r"text_config\['hidden_size'\] is 64.0"),
        (TEXT, {"num_hidden_layers": True}, r"text_config\['num_hidden_layers'\] is True"),
        (TEXT, {"num_attention_heads": 0}, r"text_config\['num_attention_heads'\] is 0"),
        (TEXT, {"rms_norm_eps": "1e-6"}, r"text_config\['rms_norm_eps'\] is '1e-6', but must be a number >= 0"),
        (TEXT, {"hidden_act": 1}, r"text_config\['hidden_act'\] is 1, but must be a name"),
        (TEXT, {"layer_types": "full_attention"}, r"text_config\['layer_types'\] is 'full_attention', .* a list"),
        (VISION, {"spatial_merge_size": "2"}, r"vision_config\['spatial_merge_size'\] is '2'"),
        (VISION, {"tokens_per_second": 0}, r"vision_config\['tokens_per_second'\] is 0, but must be a number > 0"),
        (None, {"image_token_id": "190"}, "image_token_id is '190', but must be a token's number"),
        (None, {"tie_word_embeddings": "no"}, "tie_word_embeddings is 'no', but must be true or false"),
        (None, {"architectures": 5}, "architectures is 5, but must be a list"),
        (None, {"quantization_config": "awq"}, "quantization_config is 'awq'"),
    ],
    ids=str,
)
def test_a_malformed_config_is_refused_by_the_name_of_its_key(part, values, words):
    arguments = config_arguments()
    (arguments[part] if part else arguments).update(values)
    with pytest.raises(ValueError, match=words) as error:
        Qwen2_5_VLConfig_CircleRoPE_V2.from_dict(arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "values",
    [{"torch_dtype": {"a": "b"}}, {"dtype": "auto"}, {"rope_scaling": "yarn"}, {"hidden_size": None}],
    ids=str,
)
def test_a_malformed_flat_config_is_refused_by_the_name_of_its_key(values):
    arguments = config_arguments()
    flat = {**arguments.pop("text_config"), **arguments, **values}
    with pytest.raises(ValueError, match=f"^{next(iter(values))} is .*, but must be "):
        Qwen2_5_VLConfig_CircleRoPE_V2.from_dict(flat)


def test_what_stock_takes_is_taken():
    """Null for a default, dtypes by name or as they are, parts as configs."""
    arguments = config_arguments()
    arguments["text_config"] |= {"sliding_window": None, "rope_parameters": None, "layer_types": None, "dtype": None}
    for dtype in ("bfloat16", torch.bfloat16):
        config = Qwen2_5_VLConfig_CircleRoPE_V2(**arguments, dtype=dtype, quantization_config=None)
        assert config.dtype is torch.bfloat16
    assert Qwen2_5_VLConfig_CircleRoPE_V2(text_config=config.text_config).text_config.hidden_size == 64


def test_0_means_false_in_the_block_and_stays_0():
    """1 x 2 cells are at 180 and 90 degrees of the ring; a shift of 1 raises them by 1 above their lowest."""
    ring = torch.tensor([[0, 8.16497], [-7.07107, -4.08248], [7.07107, -4.08248]]).double()
    for off in ({}, {"move_to_positive": 0, "dff_rate": 0.0}, {"move_to_positive": False, "dff_rate": False}):
        config = make_config(off)
        torch.testing.assert_close(config.make_geometry("circle").frame(1, 2), ring, atol=2e-5, rtol=0)
        assert json.dumps(json.loads(config.to_json_string())["circle_rope"]) == json.dumps(off, sort_keys=True)
    raised = make_config({"move_to_positive": 1}).make_geometry("circle").frame(1, 2)
    torch.testing.assert_close(raised, ring + 8.07107, atol=2e-5, rtol=0)


@pytest.mark.parametrize("given", [{}, {"move_to_origin": True}], ids=["absent", "given"])
def test_v1_centres_no_grid_unless_its_block_says_so(given):
    block = {"radius": 10, "alpha": 0.5, **given}
    for names in ({"model_type": V1_MODEL_TYPE}, {"architectures": ["Qwen2_5_VLForConditionalGeneration_CircleRoPE"]}):
        config = Qwen2_5_VLConfig_CircleRoPE_V2.from_dict({**config_arguments(), **names, "circle_rope": block})
        # Seen from the first cell both are at 0 degrees; from the middle they are at 180 and 0.
        first = [0, 7.07107, -7.07107] if not given else [0, -7.07107, 7.07107]
        assert config.make_geometry("circle").frame(1, 2)[:, 0].tolist() == pytest.approx(first, abs=2e-5)
        assert config.circle_rope == {"move_to_origin": False, **block}


@pytest.mark.parametrize(
    "block, words",
    [({"alpha": 0.5}, "no radius in"), ({"circle_r": 10}, "no alpha in"), ({}, "no radius and no alpha in")],
    ids=str,
)
def test_a_v1_block_needs_a_radius_by_either_name_and_alpha(block, words):
    given = {**config_arguments(), "model_type": V1_MODEL_TYPE}
    with pytest.raises(ValueError, match=words):
        Qwen2_5_VLConfig_CircleRoPE_V2.from_dict({**given, "circle_rope": block})
    whole = {"circle_r": 4, "alpha": 0.25}
    config = Qwen2_5_VLConfig_CircleRoPE_V2.from_dict({**given, "circle_rope": whole})
    assert config.make_geometry("circle") == CircleGeometry(4, 0.25, move_to_origin=False)


def test_a_refused_block_leaves_the_config_as_it_was():
    config = make_config({"radius": 5})
    with pytest.raises(ValueError, match="sum is"):
        config.circle_rope = {"base": 500, "mrope_section": [1, 1, 1]}
    assert config.circle_rope == {"radius": 5}
    assert "10000" in json.dumps(config.text_config.to_dict())


@pytest.mark.parametrize("layers", [1, 2, 5, 28, 36, 64, 80])
def test_schedules_of_any_depth(layers):
    circle, half = ("circle",) * layers, layers // 2
    assert age_schedule(None, layers) == age_schedule("strategy_1", layers) == circle
    assert age_schedule("strategy_2", layers) == ("circle",) * half + ("mrope",) * (layers - half)
    assert age_schedule("strategy_3", layers) == ("mrope",) * half + ("circle",) * (layers - half)
    assert age_schedule("strategy_4", layers) == (("circle", "mrope") * layers)[:layers]


@given(st.lists(st.sampled_from(["circle", "mrope"]), min_size=1))
def test_a_schedule_may_be_given_layer_by_layer(names):
    assert age_schedule(names, len(names)) == tuple(names)


def text_rope(config):
    """rope_theta and mrope_section of the text config, on any release."""
    text = config.text_config
    parameters = getattr(text, "rope_parameters", None) or {**text.rope_scaling, "rope_theta": text.rope_theta}
    return parameters["rope_theta"], list(parameters["mrope_section"])


def test_base_and_mrope_section_reach_the_text_config():
    with pytest.warns(UserWarning, match="rope_theta 10000"):
        config = make_config({"base": 5000, "mrope_section": [4, 2, 2]})
    assert text_rope(config) == (5000, [4, 2, 2])
    config = make_config()
    with pytest.warns(UserWarning, match="needs? fine-tuning"):
        config.circle_rope = {"base": 500}
    assert text_rope(config)[0] == 500


WAYS_TO_SET_A_BASE = {
    "made": lambda model, saved: Qwen2_5_VLConfig_CircleRoPE_V2(circle_rope={"base": 500}, **config_arguments()),
    "assigned": lambda model, saved: setattr(model.config, "circle_rope", {"base": 500}),
    "set on the model": lambda model, saved: model.set_circle_rope({"base": 500}),
    "set on its body": lambda model, saved: model.model.set_circle_rope({"base": 500}),
    "read": lambda model, saved: Qwen2_5_VLConfig_CircleRoPE_V2.from_pretrained(saved),
    "read by the auto class": lambda model, saved: AutoConfig.from_pretrained(saved, trust_remote_code=True),
}


@pytest.mark.parametrize("way", WAYS_TO_SET_A_BASE)
def test_the_warning_of_a_base_names_the_line_that_set_it(way, stock, tmp_path):
    model = make_model(stock)
    model.config.save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"circle_rope": {"base": 500}}))
    with pytest.warns(UserWarning, match="base.*needs? fine-tuning") as warned:
        WAYS_TO_SET_A_BASE[way](model, tmp_path)
    assert {warning.filename for warning in warned if "fine-tuning" in str(warning.message)} == {__file__}


def test_the_checkpoints_own_base_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_config({"base": 10000})


@pytest.mark.parametrize("block", [{}, {"radius": 3}, LONG_BLOCK], ids=["empty", "short", "long"])
@pytest.mark.parametrize("auto", [False, True], ids=["class", "auto"])
def test_load_save_load_gives_the_same_block(tmp_path, block, auto):
    config = make_config(block)
    config.save_pretrained(tmp_path / "first")
    written = json.loads((tmp_path / "first" / "config.json").read_text())
    assert written["circle_rope"] == block and written["auto_map"] == AUTO_MAP
    cls, options = (AutoConfig, {"trust_remote_code": True}) if auto else (Qwen2_5_VLConfig_CircleRoPE_V2, {})
    loaded = cls.from_pretrained(tmp_path / "first", **options)
    loaded.save_pretrained(tmp_path / "second")
    again = cls.from_pretrained(tmp_path / "second", **options)
    assert again.circle_rope == loaded.circle_rope == block
    assert text_rope(again) == text_rope(loaded) == text_rope(config)
    assert again.schedule == config.schedule
    strip = {"_name_or_path", "transformers_version"}
    first, second = ({k: v for k, v in c.to_dict().items() if k not in strip} for c in (loaded, again))
    assert first == second


def test_a_dict_round_trip(tmp_path):
    config = make_config(LONG_BLOCK)
    again = Qwen2_5_VLConfig_CircleRoPE_V2.from_dict(config.to_dict())
    assert again.circle_rope == LONG_BLOCK and again.schedule == config.schedule
    assert again.model_type == "qwen2_5_vl_circle_rope_v2"


def test_a_flat_config_round_trips(tmp_path):
    """transformers 4.49 wrote the text model's values beside the rest."""
    arguments = config_arguments()
    flat = {
        **arguments.pop("text_config"),
        **arguments,
        "model_type": "qwen2_5_vl_circle_rope_v2",
        "circle_rope": {"radius": 7, "AGE_mode": "strategy_2"},
    }
    (tmp_path / "config.json").write_text(json.dumps(flat))
    config = Qwen2_5_VLConfig_CircleRoPE_V2.from_pretrained(tmp_path)
    assert config.text_config.hidden_size == 64 and text_rope(config) == (10000, [2, 3, 3])
    assert config.schedule == ("circle", "circle", "mrope", "mrope")
    assert "circle_rope" not in config.text_config.to_dict()
    config.save_pretrained(tmp_path / "again")
    again = Qwen2_5_VLConfig_CircleRoPE_V2.from_pretrained(tmp_path / "again")
    assert again.circle_rope == {"radius": 7, "AGE_mode": "strategy_2"}
    assert text_rope(again) == text_rope(config)


def test_a_text_config_of_either_release_is_read():
    arguments = config_arguments()
    text = arguments["text_config"]
    del text["rope_theta"], text["rope_scaling"]
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 20000.0, "mrope_section": [2, 3, 3]}
    assert text_rope(Qwen2_5_VLConfig_CircleRoPE_V2(**arguments)) == (20000, [2, 3, 3])


def test_circle_r_is_the_radius():
    assert make_config({"circle_r": 3}).make_geometry("circle").radius == 3


@pytest.mark.parametrize("age_mode", ["strategy_2", "strategy_3", "strategy_4", ["mrope", "circle"] * 2], ids=str)
def test_circle_is_the_first_of_the_geometries_in_use(age_mode):
    assert make_config({"AGE_mode": age_mode}).geometries == ("circle", "mrope")
    assert make_config().geometries == ("circle",) and make_config({"AGE_mode": ["mrope"] * 4}).geometries == (
        "mrope",
    )


def test_the_given_block_is_not_shared():
    block = {"radius": 3}
    config = make_config(block)
    block["radius"] = 4
    assert config.circle_rope == {"radius": 3}


SECTIONS = {"mrope_section": [2, 3, 3]}
YARN = {"factor": 4.0, "original_max_position_embeddings": 128, **SECTIONS}


def rope(**keys):
    arguments = config_arguments()
    text_config = {key: value for key, value in arguments["text_config"].items() if not key.startswith("rope_")}
    outer = {key: value for key, value in keys.items() if key.startswith("outer_")}
    own = {key: value for key, value in keys.items() if key not in outer}
    given = {**arguments, **{key.removeprefix("outer_"): value for key, value in outer.items()}}
    config = Qwen2_5_VLConfig_CircleRoPE_V2(**{**given, "text_config": {**text_config, **own}})
    return read_rope(json.loads(config.to_json_string())["text_config"])


@pytest.mark.parametrize(
    "keys, name",
    [
        ({"rope_scaling": {"type": "mrope", **SECTIONS}}, "default"),
        ({"rope_scaling": {"rope_type": "yarn", "type": "mrope", **YARN}}, "yarn"),
        ({"rope_scaling": {"rope_type": "default", "type": "yarn", **YARN}}, "yarn"),
        ({"rope_scaling": {"type": "yarn", **YARN}, "outer_rope_scaling": {"type": "yarn", **YARN}}, "yarn"),
        ({"outer_rope_scaling": {"type": "yarn", **YARN}, "outer_rope_theta": 5e5}, "yarn"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0, **SECTIONS}}, "linear"),
        (
            {"rope_parameters": {"rope_type": "default", **SECTIONS}, "rope_scaling": {"type": "yarn", **YARN}},
            "yarn",
        ),
        (
            {
                "rope_parameters": {"rope_type": MARK, "stands_for": "default"},
                "rope_scaling": {"type": "yarn", **YARN},
            },
            "yarn",
        ),
        (
            {
                "rope_parameters": {"rope_type": MARK, "stands_for": "linear", "factor": 2.0, **SECTIONS},
                "rope_scaling": {"rope_type": MARK, "stands_for": "linear", "factor": 2.0, **SECTIONS},
            },
            "linear",
        ),
    ],
    ids=str,
)
def test_every_way_to_write_a_rope_means_the_same_on_every_release(keys, name):
    found = rope(rope_theta=10000.0, **keys)
    assert found["rope_type"] == name and found["mrope_section"] == [2, 3, 3]
    assert found["rope_theta"] == 10000.0


def test_reading_every_way_to_write_a_rope_gives_one_dict():
    plain = {"rope_type": "default", "rope_theta": 1e4, **SECTIONS}
    for scaling in ({"type": "mrope"}, {"rope_type": "mrope"}, {"rope_type": "default", "type": "mrope"}):
        assert read_rope({"rope_theta": 1e4, "rope_scaling": {**scaling, **SECTIONS}}) == plain
    marked = {"rope_type": MARK, "stands_for": "yarn", "rope_theta": 1e4, **YARN}
    yarn = {"rope_type": "yarn", "rope_theta": 1e4, **YARN}
    assert read_rope({"rope_parameters": marked, "rope_scaling": marked}) == yarn
    assert read_rope({"rope_parameters": plain, "rope_scaling": {"type": "yarn", **YARN}}) == yarn
    assert read_rope({}) == {} and read_rope({"rope_theta": 5e5}) == {"rope_theta": 5e5}


def test_the_mark_is_in_the_config_and_stands_for_its_rope(tmp_path):
    config = make_config(rope_scaling={"rope_type": "yarn", **YARN})
    kept = getattr(config.text_config, "rope_parameters", None) or config.text_config.rope_scaling
    assert kept["rope_type"] == MARK and kept["stands_for"] == "yarn"
    with plain_rope(config.text_config):
        assert kept["rope_type"] == "yarn" and "stands_for" not in kept
    assert kept["rope_type"] == MARK
    config.save_pretrained(tmp_path)
    text_config = json.loads((tmp_path / "config.json").read_text())["text_config"]
    for key in ("rope_parameters", "rope_scaling"):
        assert text_config[key]["rope_type"] == MARK and text_config[key]["stands_for"] == "yarn"
        assert text_config[key]["factor"] == 4.0
