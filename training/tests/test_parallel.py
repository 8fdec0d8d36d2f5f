"""Two processes against one: logits and one optimiser step are the same under each engine."""

import sys

import pytest
import torch

from .conftest import ROOT, run

ENGINES = ("fsdp2", "zero3", "tp")


def start(engine, file, processes=1, model=ROOT):
    worker = ["-m", "training.tests.parallel", model, engine, file]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", processes]
    return run(sys.executable, *(torchrun if processes > 1 else ()), *worker, OMP_NUM_THREADS=1)


def launch(engine, file, processes=1):
    result = start(engine, file, processes)
    assert result.returncode == 0, result.stderr[-4000:]
    return torch.load(file)


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    return launch("single", tmp_path_factory.mktemp("single") / "result.pt")


@pytest.mark.parametrize("engine", ENGINES)
def test_two_processes_do_what_one_does(engine, single, tmp_path):
    result = launch(engine, tmp_path / "result.pt", 2)
    for given, wanted in zip(
        result["logits"], single["logits"], strict=True
    ):  # before the step, and under another block
        torch.testing.assert_close(given, wanted, atol=1e-4, rtol=1e-4)
    assert result["state"].keys() >= single["state"].keys() - {"lm_head.weight"}
    wanted = {name: tensor for name, tensor in single["state"].items() if name in result["state"]}
    given = {name: result["state"][name] for name in wanted}
    torch.testing.assert_close(given, wanted, atol=2e-6, rtol=0)


def test_mixed_precision_does_not_touch_the_positions(tmp_path):
    """FSDP's cast_forward_inputs both ways: exact where the model makes them, refused where they are cast."""
    result = launch("fsdp2_bf16", tmp_path / "sharded.pt", 2)["logits"]
    alone = launch("single_bf16", tmp_path / "single.pt")["logits"]
    for case in ((True, "inside"), (True, "carried"), (False, "inside"), (False, "passed"), (False, "carried")):
        for (logits, used, positions), wanted in zip(result[case], alone):
            assert used.dtype is torch.float32 and torch.equal(used, positions)
            # bf16 rounds such logits to 1/8.
            torch.testing.assert_close(logits, wanted, atol=0.26, rtol=2e-2)
    refusal = result[True, "passed"]
    assert "torch.bfloat16" in refusal and "cast_forward_inputs=False" in refusal and "\n" not in refusal


def test_a_rank_without_a_picture_stops_stock_alone(stock_dir, tmp_path):
    """Stock's ranks gather different weights, at which gloo aborts; NCCL would wait for ever."""
    for given, wanted in launch("fsdp2_mixed", tmp_path / "ours.pt", 2)["logits"]:
        assert given.item() == pytest.approx(wanted.item(), rel=1e-5)
    stopped = start("fsdp2_mixed", tmp_path / "stock.pt", 2, stock_dir)
    assert stopped.returncode != 0 and "gloo" in stopped.stderr and not (tmp_path / "stock.pt").exists()


@pytest.mark.parametrize(("file", "nodes"), [("fsdp2.yaml", 1), ("fsdp2_nodes.yaml", 2)])
def test_accelerate_reads_its_launch_files(file, nodes):
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(ROOT / "training" / "launch" / file))
    assert (
        config.num_machines == nodes and config.distributed_type == "FSDP" and config.fsdp_config["fsdp_version"] == 2
    )


def test_the_zero3_file_is_stage_3_and_leaves_inputs_alone():
    from transformers.integrations import HfDeepSpeedConfig

    config = HfDeepSpeedConfig(str(ROOT / "training" / "launch" / "zero3.json"))
    assert config.is_zero3() and config.get_value("fp16.auto_cast") is False
