"""ms-swift's command line as the tests call it: few steps on the CPU, with this repo's registration."""

import json

import torch

from .conftest import TESTS, run, script

REGISTER = "training/register_v2.py"
MODEL_TYPE = ("--model_type", "qwen2_5_vl_circle_rope_v2")
FEW_STEPS = (
    *("--torch_dtype", "float32", "--max_steps", 4, "--save_steps", 2, "--logging_steps", 1),
    *("--gradient_accumulation_steps", 1, "--learning_rate", 1e-3, "--lr_scheduler_type", "constant"),
    *("--warmup_ratio", 0, "--add_version", "false", "--report_to", "none", "--check_model", "false"),
)


def sft(*arguments, recorded=None, plugins=(), **environment):
    if recorded is not None:
        plugins = [*plugins, TESTS / "record_positions.py"]
        environment["RECORD_POSITIONS"] = recorded
    register = ("--custom_register_path", REGISTER, *plugins)
    return run(script("swift"), "sft", *arguments, *register, *FEW_STEPS, **environment)


def losses(output):
    lines = (output / "logging.jsonl").read_text().splitlines()
    return [entry["loss"] for entry in map(json.loads, lines) if "loss" in entry]


def assert_positions_are_those_of_each_sample_alone(record, model):
    """Every sample's positions, cut out of its batch, are what `get_rope_index` says for it by itself.

    Returns how the record's batch was laid out: whether it was packed, and of how many samples.
    """
    ids, positions, grids = record["input_ids"], record["position_ids"], record["image_grid_thw"]
    if positions.shape[0] == 1 + 3 * len(model.geometries):  # generate's, with the text row in front
        positions = positions[1:]
    assert positions.dtype is torch.float32 and positions.shape[0] == 3 * len(model.geometries), positions.shape
    bounds = record["cu_seq_lens_q"]
    if bounds is None:
        keeps = [(row, mask.bool()) for row, mask in enumerate(record["attention_mask"])]
    else:
        slots = torch.arange(ids.shape[1])
        keeps = [(0, (slots >= start) & (slots < end)) for start, end in zip(bounds, bounds[1:])]
    used = 0
    for row, keep in keeps:
        sample = ids[row, keep][None]
        images = int((sample == model.config.vision_start_token_id).sum())
        alone, _ = model.get_rope_index(sample, grids[used : used + images] if images else None)
        used += images
        assert torch.equal(positions[:, row, keep], alone[:, 0])
    assert grids is None or used == len(grids)
    return bounds is not None, len(keeps)


def read_records(folder):
    """What `record_positions` wrote, in the order of the forwards."""
    records = [torch.load(folder / f"{number}.pt") for number in range(len(list(folder.glob("*.pt"))))]
    assert records
    return records
