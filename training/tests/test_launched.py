"""training/sft.py in two processes by its launch files: losses and weights of one, whatever rows have pictures.

One row of four has no picture; vision tower and projector are trained too. Under this seed no step is without any
picture: there one process and FSDP2 leave the tower as it is, and ZeRO moves it on by Adam's momentum (with the
learning rate below by up to 0.00097, while the language model stays equal to 0.00001).
"""

import json
import os
import re
import sys

import pytest
import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from .conftest import ROOT, run

SFT = ("training.sft", "--model_name_or_path", ROOT, "--seed", 1, "--logging_steps", 1, "--save_steps", 3)
EACH = ("--lr_scheduler_type", "constant", "--report_to", "none", "--per_device_train_batch_size", 1)
FULL = ("--train_vision", "true", "--learning_rate", 1e-3, "--max_steps", 6)
# Without dropout, which each process draws for itself. Adam divides a gradient by its size, and makes a step of the
# order of summation where it is nearly zero: its epsilon is above that.
LORA = ("--use_peft", "--lora_r", 8, "--lora_dropout", 0, "--learning_rate", 1e-2, "--max_steps", 3)
LORA = (*LORA, "--adam_epsilon", 1e-5)
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2)
ON_CPU = ("-m", "training.tests.on_cpu")
LAUNCH = ROOT / "training" / "launch"


def train(folder, pictures, *start, kind=FULL, options=(), **environment):
    """`start` is how Python starts the module; what it says."""
    arguments = (*SFT, *EACH, *kind, *options, "--dataset_name", pictures, "--output_dir", folder)
    result = run(sys.executable, *start, *arguments, OMP_NUM_THREADS=1, DS_ACCELERATOR="cpu", **environment)
    assert result.returncode == 0, (result.stdout + result.stderr)[-4000:]
    return result.stdout + result.stderr


def losses(folder):
    newest = max(folder.glob("checkpoint-*"))
    history = json.loads((newest / "trainer_state.json").read_text())["log_history"]
    return [entry["loss"] for entry in history if "loss" in entry]


def accelerate_launch(file, *changes):
    return (*ON_CPU, "--num_processes", 2, "--mixed_precision", "no", *changes, "--config_file", file, "-m")


ALONE = ("--gradient_accumulation_steps", 2)


@pytest.fixture(scope="module")
def alone(tmp_path_factory, pictures):
    """One process, which takes the two rows of a step one after another."""
    folder = tmp_path_factory.mktemp("alone")
    train(folder, pictures, "-m", options=ALONE)
    return folder


@pytest.fixture(scope="module")
def adapter(tmp_path_factory, pictures):
    """The same for LoRA."""
    folder = tmp_path_factory.mktemp("adapter")
    train(folder, pictures, "-m", kind=LORA, options=ALONE)
    return folder


def zero(stage, folder):
    """The launch file, or what it is without its lines for stage 3."""
    settings = json.loads((LAUNCH / "zero3.json").read_text())
    if stage != 3:
        kept = {key: value for key, value in settings["zero_optimization"].items() if "stage3" not in key}
        settings["zero_optimization"] = {**kept, "stage": stage}
    file = folder / f"zero{stage}.json"
    file.write_text(json.dumps(settings))
    return (*TORCHRUN, *ON_CPU), ("--deepspeed", file, "--use_cpu", "false")


@pytest.fixture
def engines(tmp_path):
    one_node = (LAUNCH / "fsdp2_nodes.yaml").read_text().replace("num_machines: 2", "num_machines: 1")
    (tmp_path / "nodes.yaml").write_text(one_node.replace("checkpointing: false", "checkpointing: true"))
    return {
        "fsdp2": (accelerate_launch(LAUNCH / "fsdp2.yaml"), ()),
        "fsdp2_nodes, activation checkpointing": (accelerate_launch(tmp_path / "nodes.yaml"), ()),
        "zero2": zero(2, tmp_path),
        "zero3": zero(3, tmp_path),
    }


@pytest.mark.parametrize("engine", ["fsdp2", "fsdp2_nodes, activation checkpointing", "zero2", "zero3"])
def test_two_processes_learn_what_one_does_and_leave_a_whole_model(engine, engines, alone, pictures, tmp_path):
    start, options = engines[engine]
    said = train(tmp_path / "out", pictures, *start, options=options)
    assert losses(tmp_path / "out") == pytest.approx(losses(alone), abs=1e-5 * max(losses(alone)))
    # Weights under official names, and code of ours alone.
    given, wanted = (load_file(folder / "model.safetensors") for folder in (tmp_path / "out", alone))
    assert given.keys() - {"lm_head.weight"} == wanted.keys() - {"lm_head.weight"}
    for name, tensor in wanted.items():
        torch.testing.assert_close(given[name], tensor, atol=1e-4, rtol=0)
    for folder in (tmp_path / "out", *(tmp_path / "out").glob("checkpoint-*/model.safetensors")):
        folder = folder.parent if folder.suffix else folder
        code = {"circle_rope_imp.py", "zero_to_fp32.py", "zero_to_torch.py"}
        assert {path.name for path in folder.glob("*.py")} <= code | {
            f"{part}_qwen2_5_vl_circle_rope.py" for part in ("configuration", "modeling", "modelcard")
        }
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "out", trust_remote_code=True)
    assert model.config.schedule == ("circle", "mrope") * 3
    assert re.search(
        r"layers: 6, alternating, layer 0 circle; trained parameters: 1,338,496 of the language model, 328,448 of the "
        r"projector, 481,024 of the vision tower; weights float32, positions float32; processes: 2",
        said,
    )


# With nothing but matrices to train, its group without weight decay is empty: DeepSpeed drops it, and torch misses it.
@pytest.mark.skipif(transformers.__version__ < "5", reason="Trainer 4.57 stops at the first step")
@pytest.mark.parametrize("engine", ["zero2", "zero3"])
def test_an_adapter_learns_in_two_processes_what_it_does_in_one(engine, engines, adapter, pictures, tmp_path):
    start, options = engines[engine]
    train(tmp_path / "out", pictures, *start, kind=LORA, options=options)
    assert losses(tmp_path / "out") == pytest.approx(losses(adapter), abs=1e-5 * max(losses(adapter)))
    given, wanted = (load_file(folder / "adapter_model.safetensors") for folder in (tmp_path / "out", adapter))
    assert given.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(given[name], tensor, atol=1e-5, rtol=0)


def test_a_run_leaves_a_plot_and_logs_tokens_a_second(alone):
    assert (alone / "loss.png").read_bytes().startswith(b"\x89PNG")
    logged = json.loads((alone / "checkpoint-6" / "trainer_state.json").read_text())["log_history"][0]
    assert logged["train_tokens_per_second"] > 0 and logged["num_input_tokens_seen"] == logged["num_tokens"]


def test_a_process_that_accelerate_left_alone_says_so(pictures, tmp_path):
    """accelerate launch --num_processes 2 starts one process on a CPU."""
    launch = ("-m", "accelerate.commands.launch", "--num_processes", 2, "--cpu", "--num_machines", 1)
    launch = (*launch, "--mixed_precision", "no", "--dynamo_backend", "no", "-m")
    said = train(tmp_path / "out", pictures, *launch, options=("--max_steps", 1, "--save_strategy", "no"))
    assert "this is the only one" in said and "torchrun --nproc-per-node" in said
    assert os.path.exists(tmp_path / "out" / "model.safetensors")
