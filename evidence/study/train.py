"""One run of the study, in a process of its own: `python -m evidence.study` starts it.

python -m evidence.study.train '{"what": "shapes", "scale": "small", "arm": "shared", "seed": 0}' --work W --output F
"""

import argparse
import json
import math
import os
import platform
import random
import re
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two runs side by side; and one thread adds in one order

import torch
import transformers
from peft import LoraConfig, inject_adapter_in_model
from safetensors.torch import load_model, save_model

from . import bias
from .answers import evaluate, held_out_examples, make_test, share
from .arms import BIAS, CONVERSION, CONVERSIONS, LORA, PLANS, QUICK, SCALES, TASKS, Run, recipe, weights_path
from .batches import make_batch
from .boards import METRIC, make_example
from .model import make_model, make_optimizers
from .planned import plan_commit


def make_record(run: Run, work: Path, scales=SCALES) -> dict:
    """Make a run; weights of what is trained stay in `work`. Returns its record, which the study writes down."""
    began = time.monotonic()
    work.mkdir(parents=True, exist_ok=True)
    found = {BIAS: look_for_bias, CONVERSION: convert}.get(run.what, train)(run, work, scales)
    return {
        "metric": METRIC,
        "run": run.name,
        **asdict(run),
        "recipe": recipe(run, scales),
        **found,
        "seconds": round(time.monotonic() - began),
        **made_on(),
        **({"commit": plan_commit(plan)} if (plan := scales[run.scale].plan) else {}),
    }


def made_on() -> dict[str, str]:
    """What a result may change with beside its recipe: versions, and which kernels torch takes on which processor."""
    try:
        processor = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())[1]
    except (OSError, TypeError):
        processor = platform.processor()
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "machine": platform.machine(),
        "processor": processor,
        "kernels": torch.backends.cpu.get_cpu_capability(),
    }


def look_for_bias(run: Run, work: Path, scales: dict) -> dict:
    """Position bias of the run's weights; training gives the same ones again where they are gone."""
    path = weights_path(run, scales, work)
    if not path.exists():
        train(run.trained, work, scales)
    model, processor = make_model(run, scales, work)
    load_model(model, path)
    model.eval()
    return bias.measure(model, processor, run.seed, scales[run.scale].probe_scenes)


def train(run: Run, work: Path, scales: dict) -> dict:
    """Train and test: the learning curve, and every outcome of the tests."""
    scale, task = scales[run.scale], TASKS[run.what]
    model, processor = make_model(run, scales, work)
    if scale.before:
        fit(model, processor, replace(run, what=scale.before), scale, scale.steps, run.rate)
    curve = fit(model, processor, run, scale, scale.steps, run.rate)
    unfinished = weights_path(run, scales, work).with_suffix(f".{os.getpid()}")
    save_model(model, str(unfinished))
    unfinished.replace(weights_path(run, scales, work))
    parameters = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return {"curve": curve, "tests": test(model, processor, task, run, scale), "parameters": parameters}


def convert(run: Run, work: Path, scales: dict) -> dict:
    """Go on from weights that were trained under M-RoPE: `converted` are the tests before any further step."""
    scale, task = replace(scales[run.scale], until=None, curve_points=30), TASKS[run.trained.what]
    path = weights_path(run, scales, work)
    if not path.exists():
        train(run.trained, work, scales)
    model, processor = make_model(run, scales, work)
    load_model(model, path)
    blocks, plan = CONVERSIONS[run.arm], PLANS["conversion"]
    steps, pictures = min(plan["steps"], scale.steps), min(plan["pictures_at_conversion"], scale.board_pictures)
    model.set_circle_rope(blocks[max(blocks)])
    converted = test(model, processor, task, run, replace(scale, board_pictures=pictures))
    if run.arm.endswith(LORA):
        inject_adapter_in_model(LoraConfig(r=8, lora_alpha=16, target_modules=r".*language_model.*_proj"), model)
    at = {1 + round(share * steps): block for share, block in blocks.items()}
    curve = fit(model, processor, run, scale, steps, run.rate, at)
    return {"converted": converted, "curve": curve, "tests": test(model, processor, task, run, scale)}


def test(model, processor, task, run: Run, scale) -> dict[str, dict[str, str]]:
    """Every outcome of the task's tests."""
    return {name: evaluate(model, processor, task, make_test(task, name, run.seed, scale)) for name in task.TESTS}


def fit(model, processor, run: Run, scale, steps: int, rate: float, blocks: dict[int, dict] | None = None) -> list:
    """Train for some steps, or until the scale's share of place questions is right.

    Args:
        blocks: under which block the model is from which step on.

    Returns:
        the learning curve, as [step, loss, share of right answers], of place questions where the task names them.
    """
    task = TASKS[run.trained.what]
    optimizers = make_optimizers(model, rate * scale.learning_rate, fine_tuning=run.what == CONVERSION)
    warmup = max(1, min(steps, 1000) // 10)

    def rate_at(step):
        return min((step + 1) / warmup, 1 if scale.until else 0.5 * (1 + math.cos(math.pi * step / steps)))

    schedules = [torch.optim.lr_scheduler.LambdaLR(optimizer, rate_at) for optimizer in optimizers]
    # The same pictures and questions in the same order for every arm.
    rng = random.Random(f"{'train' if run.what in TASKS else run.what} {run.seed}")
    sizes = scale.curve_pictures, scale.questions
    watched = list(held_out_examples(task, task.TRAINED_ON, f"watch {run.seed}", *sizes))
    every = max(1, steps // scale.curve_points)
    curve, losses = [], []
    model.train()
    for step in range(1, steps + 1):
        if blocks and step in blocks:
            model.set_circle_rope(blocks[step])
        board = rng.choice(task.TRAINED_ON)
        examples = [make_example(task, rng, board, held_out=False) for _ in range(scale.batch)]
        asked = [[(each.text, each.answer) for each in task.ask(some, rng, scale.questions)] for some in examples]
        loss = model(**make_batch(model, processor, [task.draw(some) for some in examples], asked)).loss
        losses.append(loss.item())
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for part in (*optimizers, *schedules):
            part.step()
        if step % every == 0 or step == steps:
            outcomes = evaluate(model, processor, task, watched)
            asked_for = getattr(task, "PLACE_KINDS", outcomes)
            right = share({kind: outcomes[kind] for kind in asked_for})
            curve.append([step, round(sum(losses) / len(losses), 4), round(right, 4)])
            losses.clear()
            print(f"{run.name}: step {step}/{steps}  loss {curve[-1][1]}  right {right:.1%}", flush=True)
            if scale.until and right >= scale.until:
                break
    return curve


def end_with_parent() -> None:
    """End this process when the one that holds its standard input ends, however that happens."""

    def wait():
        sys.stdin.read()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=lambda text: Run(**json.loads(text)), help="the run, as JSON")
    parser.add_argument("--work", type=Path, required=True, help="folder of the tower and of the weights")
    parser.add_argument("--output", type=Path, required=True, help="file that the record is written to")
    parser.add_argument("--quick", action="store_true", help="a few steps only, to see that it works")
    parser.add_argument("--end-with-parent", action="store_true", help="end when standard input does")
    args = parser.parse_args()
    if args.end_with_parent:
        end_with_parent()
    record = make_record(args.run, args.work, QUICK if args.quick else SCALES)
    args.output.write_text(json.dumps(record) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
