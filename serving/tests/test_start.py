"""What cannot be served exactly is refused when vLLM is started, in one sentence."""

import json
import shutil
import subprocess
import sys

import pytest
from vllm.engine.arg_utils import EngineArgs

from configuration_qwen2_5_vl_circle_rope import read_rope
from tests.models import copy_checkpoint

from .cases import BLOCKS, MEDIA, ROOT, TAKES_VIDEOS


def configure(directory=ROOT, **options):
    """vLLM's configuration of an engine, as it is made before any engine starts."""
    return EngineArgs(**{"model": str(directory), "max_model_len": 1024, **MEDIA, **options}).create_engine_config()


def edited(directory, edit, of=None):
    """A copy of a checkpoint, the root's if none is given, with another config.json."""
    copy_checkpoint(directory) if of is None else shutil.copytree(of, directory)
    path = directory / "config.json"
    config = json.loads(path.read_text())
    edit(config)
    path.write_text(json.dumps(config))
    return directory


@pytest.mark.parametrize("block", BLOCKS)
def test_the_runner_keeps_three_rows_for_each_geometry(block, checkpoint):
    config = configure(checkpoint(block))
    assert config.model_config.mrope_num_dims == 3 * (1 if block in ("circle", "mrope") else 2)


def test_graphs_of_one_block_are_not_used_for_another(checkpoint):
    hashes = {configure(checkpoint(block)).compute_hash() for block in BLOCKS}
    assert len(hashes) == len(BLOCKS)


def test_the_mark_is_no_warning(caplog):
    configure()
    assert "rope_type" not in caplog.text


def test_remote_code_is_not_needed_and_not_run(tmp_path):
    def forget(config):
        config["auto_map"] = {"AutoConfig": "missing.Missing"}

    config = configure(edited(tmp_path / "model", forget), trust_remote_code=True)
    assert type(config.model_config.hf_config).__module__ == "circle_rope_vllm.configuration_qwen2_5_vl_circle_rope"


def test_training_in_the_same_process_sees_the_config_as_it_is(checkpoint):
    from transformers import AutoConfig

    configure(checkpoint("strategy_4"))
    config = AutoConfig.from_pretrained(checkpoint("strategy_4"), trust_remote_code=True)
    assert config.text_config.rope_parameters["mrope_section"] == [4, 6, 6]


def become_stock(config):
    for key in ("auto_map", "circle_rope"):
        del config[key]
    config |= {"model_type": "qwen2_5_vl", "architectures": ["Qwen2_5_VLForConditionalGeneration"]}
    config["text_config"] |= {"rope_parameters": read_rope(config["text_config"]), "rope_scaling": None}


def test_a_stock_checkpoint_is_served_by_stock(tmp_path):
    directory = edited(tmp_path / "model", become_stock)
    assert configure(directory).model_config.mrope_num_dims == 3
    ours = {"architectures": ["Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2"]}
    with pytest.raises(ValueError, match="model_type 'qwen2_5_vl', which is no Circle-RoPE checkpoint: convert it"):
        configure(directory, hf_overrides=ours)


def test_a_wrong_block(tmp_path):
    directory = edited(tmp_path / "model", lambda config: config["circle_rope"].update(radius=-1))
    with pytest.raises(ValueError, match=r"circle_rope\['radius'\] is -1, but must be"):
        configure(directory)


@pytest.mark.parametrize(
    "given, merged",
    [
        (
            {"AGE_mode": "strategy_3"},
            {"radius": 10, "alpha": 0.3, "AGE_mode": "strategy_3", "mrope_interleaved": True},
        ),
        ({"circle_r": 3}, {"circle_r": 3, "alpha": 0.3, "AGE_mode": "strategy_4", "mrope_interleaved": True}),
        ({}, {"radius": 10, "alpha": 0.3, "AGE_mode": "strategy_4", "mrope_interleaved": True}),
    ],
    ids=["one key", "another name of a key", "none"],
)
def test_overrides_change_single_keys_of_the_block(given, merged, tmp_path):
    block = {"radius": 10, "alpha": 0.3, "AGE_mode": "strategy_4", "mrope_interleaved": True}
    directory = edited(tmp_path / "model", lambda config: config.update(circle_rope=block))
    config = configure(directory, hf_overrides={"circle_rope": given})
    assert config.model_config.hf_config.circle_rope == merged
    assert config.model_config.mrope_num_dims == 6


def test_overrides_that_the_block_does_not_allow():
    with pytest.raises(ValueError, match=r"unknown key 'radus' \(did you mean 'radius'\?\)"):
        configure(hf_overrides={"circle_rope": {"radus": 3}})


@pytest.mark.parametrize("given", [{"radius": 1e30}, {"move_to_positive": 1e30}, {"image_stride": 1e30}])
def test_positions_beyond_what_rows_hold(given):
    with pytest.raises(ValueError, match=r"puts a small picture at .*e\+(29|30), .* make the radius"):
        configure(hf_overrides={"circle_rope": given})


def test_a_text_config_without_sections(tmp_path):
    def forget(config):
        for rope in ("rope_parameters", "rope_scaling"):
            del config["text_config"][rope]["mrope_section"]

    with pytest.raises(ValueError, match="has no mrope_section"):
        configure(edited(tmp_path / "model", forget))


def test_frequencies_that_move(tmp_path):
    def move(config):
        for rope in ("rope_parameters", "rope_scaling"):
            config["text_config"][rope] |= {"stands_for": "dynamic", "factor": 2.0}

    with pytest.raises(ValueError, match="rope_type 'dynamic' .* cannot be served"):
        configure(edited(tmp_path / "model", move))


def test_a_context_that_leaves_too_few_places(tmp_path):
    directory = edited(
        tmp_path / "model", lambda config: config["text_config"].update(max_position_embeddings=1 << 26)
    )
    with pytest.raises(ValueError, match="leaves room for 16 requests at once, but max_num_seqs is 16"):
        configure(directory, max_model_len=1 << 26, max_num_seqs=16)
    configure(directory, max_model_len=1 << 26, max_num_seqs=15)


def test_video_pruning():
    with pytest.raises(ValueError, match="video pruning .* leave --video-pruning-rate out"):
        configure(video_pruning_rate=0.5)


@pytest.mark.skipif(TAKES_VIDEOS, reason="this vLLM knows when a frame was")
def test_videos_without_the_times_of_their_frames():
    with pytest.raises(ValueError, match="drops the times of a video's frames, .* --limit-mm-per-prompt"):
        configure(limit_mm_per_prompt={})


def test_a_draft_model(checkpoint):
    drafts = {"model": str(checkpoint("circle")), "num_speculative_tokens": 2}
    with pytest.raises(ValueError, match="speculative method 'draft_model' reads positions"):
        configure(speculative_config=drafts)
    configure(speculative_config={"method": "ngram", "num_speculative_tokens": 2, "prompt_lookup_max": 3})


OTHER_VLLM = """
import sys, vllm
vllm.__version__ = sys.argv[1]
from vllm.engine.arg_utils import EngineArgs
for path in sys.argv[2:]:
    try:
        config = EngineArgs(model=path, max_model_len=1024, trust_remote_code=True).create_engine_config()
        print(config.model_config.architectures)
    except ValueError as error:
        print(error)
"""


@pytest.mark.parametrize("version", ["0.29.2", "0.34.0", "1.0"])
def test_another_vllm_serves_all_other_models(version, tmp_path):
    stock = edited(tmp_path / "stock", become_stock)
    command = [sys.executable, "-c", OTHER_VLLM, version, stock, ROOT]
    said = subprocess.run(command, capture_output=True, text=True).stdout
    served = [line for line in said.splitlines() if line.startswith("['")]
    assert served == ["['Qwen2_5_VLForConditionalGeneration']"]
    assert f"Circle-RoPE with vLLM from 0.30 to below 0.34, but found {version}: install a vLLM in that range" in said
