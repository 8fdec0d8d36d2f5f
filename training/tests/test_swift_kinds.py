"""ms-swift's other kinds of training, each a few steps: its first loss, and the positions of every batch."""

import json
import math
import re
import socket

import pytest
from transformers import AutoModelForImageTextToText

from .conftest import ROOT, TESTS, run, script, warm
from .pictures_set import write_set
from .swift_cli import assert_positions_are_those_of_each_sample_alone, losses, read_records

FEW_STEPS = (
    *("--model", ROOT, "--torch_dtype", "float32", "--tuner_type", "full", "--per_device_train_batch_size", 2),
    *("--max_steps", 2, "--save_steps", 2, "--logging_steps", 1, "--gradient_accumulation_steps", 1),
    *("--learning_rate", 1e-3, "--warmup_ratio", 0, "--add_version", "false", "--report_to", "none"),
    *("--check_model", "false", "--split_dataset_ratio", 0),
    *("--custom_register_path", ROOT / "training" / "register_v2.py", TESTS / "record_positions.py"),
)
WORST = [{"role": "user", "content": "NOTHING AT ALL"}]
# Kind: command, arguments, what a row has beside its question and answer, and the first loss where it is known.
KINDS = {
    "dpo": ("rlhf", ("--rlhf_type", "dpo"), lambda row: {"rejected_response": "nothing at all"}, math.log(2)),
    "kto": ("rlhf", ("--rlhf_type", "kto"), lambda row: {"label": len(row["images"]) == 1}, 0.5),
    "reward": ("rlhf", ("--rlhf_type", "rm"), lambda row: {"rejected_response": "nothing at all"}, None),
    "sequence classification": (
        "sft",
        ("--task_type", "seq_cls", "--num_labels", 2),
        lambda row: {"messages": row["messages"][:1], "label": len(row["images"]) % 2},
        None,
    ),
    "embedding": (
        "sft",
        ("--task_type", "embedding", "--loss_type", "infonce"),
        lambda row: {
            "messages": row["messages"][:1],
            "positive_messages": [[{**row["messages"][1], "role": "user"}]],
            "negative_messages": [WORST],
        },
        None,
    ),
    "streaming": ("sft", ("--streaming", "true"), lambda row: {}, None),
    # Its reference is the model itself at the first step, and the rewards of each pair are equal: nothing is lost.
    "grpo": (
        "rlhf",
        (
            *("--rlhf_type", "grpo", "--reward_funcs", "format", "--num_generations", 2, "--beta", 0.1),
            *("--max_completion_length", 4),
        ),
        lambda row: {"messages": row["messages"][:1]},
        0,
    ),
    "generated evaluation": (
        "sft",
        (
            *("--predict_with_generate", "true", "--eval_strategy", "steps", "--eval_steps", 2),
            *("--max_new_tokens", 4, "--split_dataset_ratio", 0.2),
        ),
        lambda row: {},
        None,
    ),
}


@pytest.fixture(scope="module")
def swift():
    """Commands of ms-swift, in a process that has it imported."""
    trainers = ("DPOTrainer", "GRPOTrainer", "KTOTrainer", "RewardTrainer")
    return warm(
        *("swift.ray_utils:try_init_ray", "swift.pipelines:sft_main", "swift.pipelines:rlhf_main"),
        *("swift.trainers:Seq2SeqTrainer", "swift.trainers:EmbeddingTrainer", "swift.trainers:Trainer"),
        *(f"swift.rlhf_trainers:{trainer}" for trainer in trainers),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_it_trains_with_the_positions_of_each_sample(kind, swift, pictures, tmp_path):
    command, arguments, extra, first_loss = KINDS[kind]
    rows = [json.loads(line) for line in (pictures / "train.jsonl").read_text().splitlines()]
    rows = [{**row, "messages": row["messages"][:2], **extra(row)} for row in rows]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    out = tmp_path / "out"
    result = swift(
        *(
            "-m",
            f"swift.cli.{command}",
            *FEW_STEPS,
            *arguments,
            "--dataset",
            tmp_path / "train.jsonl",
            "--output_dir",
            out,
        ),
        RECORD_POSITIONS=tmp_path / "positions",
    )
    assert result.returncode == 0, result.stdout[-3000:]
    if first_loss is not None:
        assert losses(out)[0] == pytest.approx(first_loss, abs=1e-4)
    model = AutoModelForImageTextToText.from_pretrained(ROOT, trust_remote_code=True).model
    for record in read_records(tmp_path / "positions"):
        assert_positions_are_those_of_each_sample_alone(record, model)
    if kind == "generated evaluation":
        entries = map(json.loads, (out / "logging.jsonl").read_text().splitlines())
        assert any("eval_rouge-l" in entry for entry in entries)


TOGETHER = {
    # ms-swift's Muon stops at the convolution of a tower that is trained; its "muon" fetches code, and stops before.
    "padded, Muon": ("--optimizer", "muonclip"),
    "packed, tower trained": (
        *("--packing", "true", "--attn_impl", "flash_attention_2", "--max_length", 300, "--freeze_vit", "false"),
        *("--custom_register_path", ROOT / "training/register_v2.py", TESTS / "flash_on_cpu.py"),
    ),
    # Of two workers ms-swift takes one for a stream, and says so.
    "streamed, 8-bit Adam": ("--streaming", "true", "--dataloader_num_workers", 2, "--optim", "adamw_8bit"),
}


@pytest.mark.parametrize("way", TOGETHER)
def test_two_processes_learn_what_one_does(way, swift, tmp_path):
    """One process takes the two batches of a step, with and without pictures, one after another."""
    # In order, for ms-swift leaves an odd one out before it shuffles for several processes.
    data = ("--dataset", write_set(tmp_path / "data", rows=24) / "train.jsonl", "--train_dataloader_shuffle", "false")
    each = (*FEW_STEPS, *TOGETHER[way], *data, "--max_steps", 3, "--use_cpu", "true")
    each = (*each, "--per_device_train_batch_size", 1, "--output_dir")
    alone = swift("-m", "swift.cli.sft", *each, tmp_path / "alone", "--gradient_accumulation_steps", 2)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        start = {"NPROC_PER_NODE": 2, "MASTER_PORT": free.getsockname()[1]}
    together = run(script("swift"), "sft", *each, tmp_path / "together", "--ddp_backend", "gloo", **start)
    assert alone.returncode == together.returncode == 0, (alone.stdout + together.stdout + together.stderr)[-4000:]
    wanted = losses(tmp_path / "alone")
    assert len(wanted) == 3 and losses(tmp_path / "together") == pytest.approx(wanted, abs=1e-5 * max(wanted))


@pytest.mark.parametrize(
    ("arguments", "change", "words"),
    [
        ((), {"messages": [{"role": "user", "content": "<video>?"}], "videos": ["absent.mp4"]}, "video absent.mp4"),
        (("--use_liger_kernel", "true"), {}, "use_liger_kernel needs a GPU, and there is none: leave it out."),
    ],
)
def test_a_mistake_is_one_sentence(arguments, change, words, swift, pictures, tmp_path):
    row = json.loads((pictures / "train.jsonl").read_text().splitlines()[0]) | change
    (tmp_path / "train.jsonl").write_text(json.dumps(row))
    files = ("--dataset", tmp_path / "train.jsonl", "--output_dir", tmp_path / "out")
    result = swift("-m", "swift.cli.sft", *FEW_STEPS, *arguments, *files)
    assert result.returncode != 0 and "Traceback" not in result.stdout
    assert words in re.findall(r"^error: (.*)$", result.stdout, re.M)[-1]
