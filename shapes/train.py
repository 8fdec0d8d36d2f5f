"""Train the tiny checkpoint on generated conversations about pictures and videos, on the CPU or a GPU.

python -m shapes.train --output-dir runs/shapes

The output directory holds the checkpoint, and `training/` in it what a further run goes on from: the same command
with more steps continues where the last one ended or was stopped.
"""

import sys

if __spec__ is None:
    print("error: from the repo's root, this is python -m shapes.train", file=sys.stderr)
    sys.exit(2)

import argparse
import json
import math
import random
import time
from collections import Counter
from pathlib import Path

import torch
from torch.utils.data import DataLoader, IterableDataset
from transformers import AutoProcessor

from configuration_qwen2_5_vl_circle_rope import Qwen2_5_VLConfig_CircleRoPE_V2
from modeling_qwen2_5_vl_circle_rope import Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2

from .branches import make_batch
from .checkpoint import model_config, save_processor, write_processor
from .lessons import LAYOUTS, make_sample, to_messages
from .muon import Muon

FACTORS = (5, 1)  # of the learning rate: Muon's and AdamW's
# Conversations of a sample, as far as they fit, and turns of each.
DIVISIONS = ((16, 1), (16, 1), (8, 2), (4, 4))
LONGEST = 320  # tokens of a sample: with rows of about one length, a batch is hardly ever padding


def draw_samples(rng: random.Random, size: int, layouts: dict[str, float], held_out: bool = False) -> list:
    """`size` samples of random layouts, all of them with as many conversations of as many turns."""
    conversations, turns = (3, 4) if held_out else rng.choice(DIVISIONS)
    drawn = rng.choices(list(layouts), list(layouts.values()), k=size)
    return [make_sample(rng, layout, held_out, conversations, turns) for layout in drawn]


def to_batch(model, processor, samples: list, longest: int | None = None) -> dict:
    messages = [[to_messages(sample, talk) for talk in sample.conversations] for sample in samples]
    media, fps = [sample.media for sample in samples], [sample.fps for sample in samples]
    return make_batch(model, processor, media, messages, fps, longest)


class Batches(IterableDataset):
    """Training batches without end."""

    def __init__(self, model, processor, rng: random.Random, size: int, layouts: dict[str, float]):
        self.model, self.processor, self.rng, self.size, self.layouts = model, processor, rng, size, layouts

    def __iter__(self):
        while True:
            yield to_batch(self.model, self.processor, draw_samples(self.rng, self.size, self.layouts), LONGEST)


def find_loss(model, labels: torch.Tensor, **batch) -> torch.Tensor:
    """Mean cross-entropy of the answers, without the logits of all that is no answer."""
    hidden, labels = model.model(**batch).last_hidden_state[:, :-1], labels[:, 1:]
    is_learned = labels != -100
    return torch.nn.functional.cross_entropy(model.lm_head(hidden[is_learned]), labels[is_learned])


@torch.no_grad()
def test(model, processor, layouts: dict[str, float], seed: int, batches: int = 4, size: int = 24) -> dict[str, str]:
    """Shares of exact held-out answers, with the right answers as history: all, by turn, language, layout, and kind.

    An answer counts if every token of it, its end included, is the model's first choice given the ones before.
    """
    rng, right, total = random.Random(seed), Counter(), Counter()
    model.eval()
    for _ in range(batches):
        samples = draw_samples(rng, size, layouts, held_out=True)
        batch = to_batch(model, processor, samples)
        labels = batch.pop("labels")
        is_wrong = (model(**batch).logits[:, :-1].argmax(-1) != labels[:, 1:]) & (labels[:, 1:] != -100)
        for sample, learned, wrong in zip(samples, labels[:, 1:] != -100, is_wrong):
            # Answers are runs of labelled tokens, in the order of the conversations.
            starts = learned & ~torch.nn.functional.pad(learned, (1, 0))[:-1]
            number = starts.cumsum(0) - 1
            turns = [(turn, asked) for talk in sample.conversations for turn, asked in enumerate(talk, start=1)]
            bad = set(number[wrong].tolist())
            for position, (turn, asked) in enumerate(turns):
                for name in ("all", f"turn {turn}", asked.language, sample.layout, asked.kind):
                    total[name] += 1
                    right[name] += position not in bad
    model.train()
    return {name: f"{100 * right[name] / total[name]:.1f}" for name in sorted(total)}


def make_optimizers(model, learning_rate: float) -> list:
    """Muon for the matrices of the layers, which learn in about half as many steps with it; AdamW for the rest."""
    parameters = list(model.named_parameters())
    is_matrix = [parameter.ndim == 2 and (".layers." in name or ".blocks." in name) for name, parameter in parameters]
    matrices = [parameter for (_, parameter), muon in zip(parameters, is_matrix) if muon]
    others = [parameter for (_, parameter), muon in zip(parameters, is_matrix) if not muon]
    return [
        Muon(matrices, lr=FACTORS[0] * learning_rate, weight_decay=0.01),
        torch.optim.AdamW(others, lr=FACTORS[1] * learning_rate, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output-dir", type=Path, required=True, help="where the checkpoint goes")
    parser.add_argument("--steps", type=int, default=21400, help="all steps, those of earlier runs included")
    parser.add_argument("--decay", type=int, default=12000, help="the last steps, in which the rate goes to 0")
    parser.add_argument("--start-from", type=Path, help="a checkpoint of this script, for its weights and tokens")
    parser.add_argument("--layouts", type=json.loads, default=LAYOUTS, help="how often each layout comes, as JSON")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--test-every", type=int, default=200, help="steps between two tests on held-out samples")
    parser.add_argument("--save-every", type=float, default=5, help="minutes between two checkpoints")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--circle-rope",
        type=json.loads,
        default={"radius": 10, "alpha": 0.5, "method": "circle", "move_to_origin": True, "AGE_mode": "strategy_4"},
        help="the circle_rope block, as JSON",
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    state_file, done = args.output_dir / "training" / "state.pt", 0
    # A run goes on with the tokens that it began with, whatever words have come since.
    begun = args.output_dir if state_file.exists() else args.start_from
    if begun:
        processor = AutoProcessor.from_pretrained(begun, trust_remote_code=False)
        write_processor(processor, args.output_dir)
    else:
        processor = save_processor(args.output_dir)
    arguments = model_config(processor, args.circle_rope)
    # Processes of tensor parallelism share the rows of the embedding evenly.
    arguments["text_config"]["vocab_size"] = 16 * math.ceil(len(processor.tokenizer) / 16)
    config = Qwen2_5_VLConfig_CircleRoPE_V2(**arguments)
    make = Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2
    model = make.from_pretrained(args.start_from, config=config) if args.start_from else make(config)
    model.to(args.device)
    print(f"{sum(parameter.numel() for parameter in model.parameters()):,} parameters", flush=True)

    optimizers = make_optimizers(model, args.learning_rate)
    if state_file.exists():
        state = torch.load(state_file, map_location=args.device, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, kept in zip(optimizers, state["optimizers"]):
            optimizer.load_state_dict(kept)
        done = state["step"]
    rng = random.Random(f"{args.seed} {done}")
    print(f"from step {done + 1} to {args.steps}", flush=True)
    model.train()
    began = saved = time.monotonic()
    losses = []
    # On a CPU they are made beside the training; a process of its own could not use the GPU of this one.
    workers = 1 if args.device == "cpu" else 0
    made = Batches(model, processor, rng, args.batch_size, args.layouts)
    batches = iter(DataLoader(made, batch_size=None, num_workers=workers))
    for step in range(done + 1, args.steps + 1):
        share = min(1, step / 100, (args.steps - step + 1) / max(args.decay, 1))
        for optimizer, factor in zip(optimizers, FACTORS):
            optimizer.param_groups[0]["lr"] = share * factor * args.learning_rate
            optimizer.zero_grad()
        loss = find_loss(model, **next(batches))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        losses.append(loss.item())
        if step % 25 == 0 or step == args.steps:
            mean, losses = sum(losses) / len(losses), []
            print(f"step {step}/{args.steps}  loss {mean:.4f}  {time.monotonic() - began:.0f} s", flush=True)
        if step % args.test_every == 0 or step == args.steps:
            print(
                f"held out: {json.dumps(test(model, processor, args.layouts, step, size=args.batch_size))}", flush=True
            )
        if time.monotonic() - saved > 60 * args.save_every or step == args.steps:
            save(model, optimizers, step, args.output_dir)
            saved = time.monotonic()


def save(model, optimizers: list, step: int, directory: Path):
    """Save the checkpoint, with its code, and what a further run goes on from."""
    model.generation_config.do_sample = False
    model.save_pretrained(directory)
    file = directory / "training" / "state.pt"
    file.parent.mkdir(exist_ok=True)
    state = {"model": model.state_dict(), "step": step, "optimizers": [each.state_dict() for each in optimizers]}
    torch.save(state, file.with_suffix(".new"))
    file.with_suffix(".new").replace(file)


if __name__ == "__main__":
    main()
