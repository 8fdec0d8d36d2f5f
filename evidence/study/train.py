"""One training run of the study, in a process of its own: `python -m evidence.study` starts it.

python -m evidence.study.train '{"scale": "small", "arm": "circle", "seed": 0}' --work DIR --output FILE
"""

import argparse
import json
import math
import os
import platform
import random
import tempfile
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two runs side by side; and one thread adds in one order

import torch
import transformers
from safetensors.torch import load_model, save_model

from configuration_qwen2_5_vl_circle_rope import Qwen2_5_VLConfig_CircleRoPE_V2
from evidence.geometry.candidates import CANDIDATES
from modeling_qwen2_5_vl_circle_rope import Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2
from shapes.checkpoint import model_config, save_processor
from training.anneal import CircleRopeAnnealing

from . import task, tower
from .arms import (
    CANDIDATE_OF,
    LAYERS,
    QUICK,
    SCALES,
    SWITCHES,
    TESTS,
    TRAINED_ON,
    Run,
    recipe,
    weights_path,
    work_folder,
)
from .batches import make_batch


class CandidateConfig(Qwen2_5_VLConfig_CircleRoPE_V2):
    """A config whose circle is one of `CANDIDATES`: what a new option of the block would do."""

    candidate = None

    def make_geometry(self, name):
        return CANDIDATES[self.candidate] if name == "circle" else super().make_geometry(name)


def make_model(scale, block: dict, seed: int, work: Path, candidate: str | None = None):
    """The scale's model under a block, with random weights by the seed and the frozen tower; and its processor."""
    with tempfile.TemporaryDirectory() as folder:
        pixels = {"patch_size": scale.patch_size, "min_pixels": 1, "max_pixels": 10**6}
        processor = save_processor(Path(folder), list(task.sentences()), **pixels)
    dimensions = model_config(processor, block)
    dimensions["text_config"].update(
        hidden_size=scale.hidden,
        intermediate_size=3 * scale.hidden,
        num_hidden_layers=LAYERS,
        num_attention_heads=scale.heads,
        num_key_value_heads=1,
        rope_theta=scale.rope_theta,
        rope_scaling={"type": "mrope", "mrope_section": list(scale.mrope_section)},
    )
    dimensions["vision_config"].update(
        depth=2,
        hidden_size=64,
        intermediate_size=128,
        num_heads=2,
        out_hidden_size=scale.hidden,
        patch_size=scale.patch_size,
        fullatt_block_indexes=[],
        window_size=task.CELL,
    )
    config = (CandidateConfig if candidate else Qwen2_5_VLConfig_CircleRoPE_V2)(**dimensions)
    config.candidate = candidate
    torch.manual_seed(seed)
    model = Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2(config)
    tower.prepare(model, processor, scale, work)
    return model, processor


def make_optimizers(model, learning_rate: float) -> list:
    """Muon for the matrices of the layers, which learn in half as many steps with it; AdamW for the rest."""
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    matrices = [parameter for name, parameter in trained if ".layers." in name and parameter.ndim == 2]
    others = [parameter for name, parameter in trained if not (".layers." in name and parameter.ndim == 2)]
    return [
        torch.optim.Muon(matrices, lr=5 * learning_rate, weight_decay=0.01),
        torch.optim.AdamW(others, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def draw_batch(model, processor, rng: random.Random, boards, pictures: int, questions: int):
    """Pictures of one board out of `boards` with questions about each: the model's batch, and the questions."""
    board = rng.choice(boards)
    scenes = [task.make_scene(rng, board) for _ in range(pictures)]
    drawn = [task.draw(scene, board, rng) for scene in scenes]
    asked = [task.make_questions(scene, board, rng, questions) for scene in scenes]
    return make_batch(model, processor, drawn, asked), asked


BATCH = 16  # pictures that are asked about at once


@torch.no_grad()
def evaluate(model, processor, boards, pictures: int, questions: int, seed: int) -> dict:
    """Share of exact answers about `pictures` pictures of the boards in turn, over all questions and by kind.

    An answer counts if every token of it, its end included, is the model's first choice given the ones before: then,
    and only then, greedy decoding gives exactly this answer.
    """
    model.eval()
    rng, right, total = random.Random(seed), Counter(), Counter()
    for number in range(pictures // BATCH):
        board = boards[number % len(boards)]
        batch, asked = draw_batch(model, processor, rng, [board], BATCH, questions)
        labels = batch.pop("labels")
        chosen = model(**batch).logits[:, :-1].argmax(-1)
        begin = (batch["input_ids"][0] == model.config.vision_end_token_id).nonzero().item() + 1
        exact = ((chosen == labels[:, 1:]) | (labels[:, 1:] == -100))[:, begin - 1 :]
        exact = exact.reshape(len(asked), questions, -1).all(-1)
        for row, pairs in zip(exact.tolist(), asked):
            for is_right, (question, _) in zip(row, pairs):
                kind = " ".join(question.split()[:2])
                total[kind] += 1
                right[kind] += is_right
    model.train()
    by_kind = {kind: round(right[kind] / total[kind], 4) for kind in sorted(total)}
    return {"exact": round(right.total() / total.total(), 4), "questions": total.total(), "by_kind": by_kind}


def train(run: Run, work: Path, scales=SCALES) -> dict:
    """Train and test; the weights stay in `work`. Returns the run's record, which the study writes down."""
    scale = scales[run.scale]
    began = time.monotonic()
    folder = work_folder(run, scales, work)
    folder.mkdir(parents=True, exist_ok=True)
    model, processor = make_model(scale, run.block, run.seed, folder, CANDIDATE_OF.get(run.arm))
    steps = scale.switch_steps if run.switch else scale.steps
    key = SWITCHES[run.arm][1] if run.switch else None
    annealing = CircleRopeAnnealing(key, steps=0.5) if key else None
    state = transformers.TrainerState(max_steps=steps)
    if run.starts_from:
        load_model(model, weights_path(run.starts_from, scales, work))
    if annealing:
        annealing.on_train_begin(None, state, None, model=model)

    optimizers = make_optimizers(model, scale.learning_rate)
    warmup = max(1, steps // 10)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min((step + 1) / warmup, 0.5 * (1 + math.cos(math.pi * step / steps)))
        )
        for optimizer in optimizers
    ]
    # The same pictures and questions in the same order for every arm; others after a switch than before it.
    rng = random.Random(f"{run.seed} {run.switch}")
    every = steps // 10 or 1
    curve, losses = [], []

    def note(step):
        exact = evaluate(model, processor, TRAINED_ON, scale.curve_pictures, scale.questions, 10**6)
        loss = sum(losses) / len(losses) if losses else None
        curve.append({"step": step, "loss": loss and round(loss, 4), "exact": exact["exact"]})
        print(f"{run.name}: step {step}/{steps}  {curve[-1]}  {time.monotonic() - began:.0f} s", flush=True)
        losses.clear()

    model.train()
    note(0)
    for step in range(steps):
        state.global_step = step
        if annealing:
            annealing.on_step_begin(None, state, None, model=model)
        batch, _ = draw_batch(model, processor, rng, TRAINED_ON, scale.batch, scale.questions)
        loss = model(**batch).loss
        losses.append(loss.item())
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for part in (*optimizers, *schedules):
            part.step()
        if (step + 1) % every == 0 or step + 1 == steps:
            note(step + 1)

    tests = {
        name: evaluate(model, processor, boards, scale.test_pictures, scale.questions, 10**6 + 1)
        for name, boards in TESTS.items()
    }
    save_model(model, str(weights_path(run, scales, work)))
    return {
        "run": run.name,
        **asdict(run),
        "recipe": recipe(run, scales),
        "curve": curve,
        "tests": tests,
        "parameters": sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        "seconds": round(time.monotonic() - began),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "machine": platform.machine(),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=lambda text: Run(**json.loads(text)), help="the run, as JSON")
    parser.add_argument("--work", type=Path, required=True, help="folder of the tower and of the weights")
    parser.add_argument("--output", type=Path, required=True, help="file that the record is written to")
    parser.add_argument("--quick", action="store_true", help="a few steps only, to see that it works")
    args = parser.parse_args()
    record = train(args.run, args.work, QUICK if args.quick else SCALES)
    args.output.write_text(json.dumps(record) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
