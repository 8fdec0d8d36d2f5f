"""The circle_rope block: what it allows, what it means, and that it survives every round trip."""

import json
import math
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig

from configuration_qwen2_5_vl_circle_rope import (
    AUTO_MAP,
    MARK,
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
