"""Train the tiny checkpoint from scratch on generated pictures, on the CPU or a GPU.

python shapes/train.py --output-dir tiny
"""

import argparse
import json
import math
import random
import sys
import time
from pathlib import Path

import torch

from branches import make_batch
from checkpoint import model_config, save_processor
from pictures import draw, make_questions, make_scene

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from configuration_qwen2_5_vl_circle_rope import Qwen2_5_VLConfig_CircleRoPE_V2  # noqa: E402
from modeling_qwen2_5_vl_circle_rope import Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2  # noqa: E402

MODULES = (
    "circle_rope_imp.py",
    "configuration_qwen2_5_vl_circle_rope.py",
    "modeling_qwen2_5_vl_circle_rope.py",
)


def draw_batch(rng: random.Random, size: int, questions_per_picture: int, most_things: int, focus: str) -> tuple:
    """Pictures of `size` training scenes, and the questions about each; those that begin with `focus` come first."""
    pictures, questions = [], []
    for _ in range(size):
        scene = make_scene(rng, held_out=False, fewest=min(2, most_things), most=most_things)
        pictures.append(draw(scene, rng))
        in_order = sorted(make_questions(scene, rng), key=lambda pair: not (focus and pair[0].startswith(focus)))
        questions.append(in_order[:questions_per_picture])
    return pictures, questions


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output-dir", type=Path, required=True, help="where the checkpoint goes")
    parser.add_argument("--steps", type=int, default=1400)
    parser.add_argument("--start-from", type=Path, help="go on from a checkpoint of this script")
    parser.add_argument("--focus", default="", help="ask the questions that begin so before all others")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--questions", type=int, default=6, help="questions per picture")
    parser.add_argument("--learning-rate", type=float, default=1.5e-3)
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
    rng = random.Random(args.seed)
    processor = save_processor(args.output_dir)
    config = Qwen2_5_VLConfig_CircleRoPE_V2(**model_config(processor, args.circle_rope))
    model = Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2(config)
    if args.start_from:
        model = model.from_pretrained(args.start_from, config=config)
    model.to(args.device)
    print(f"{sum(parameter.numel() for parameter in model.parameters()):,} parameters", flush=True)

    optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    warmup = min(100, args.steps // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(step / max(warmup, 1), 0.5 * (1 + math.cos(math.pi * min(1, step / args.steps)))),
    )
    model.train()
    began = time.monotonic()
    for step in range(1, args.steps + 1):
        # Pictures of two things first: what belongs to which is learned soonest there.
        most_things = 4 if args.start_from else min(4, 2 + 7 * step // args.steps)
        drawn = draw_batch(rng, args.batch_size, args.questions, most_things, args.focus)
        loss = model(**make_batch(model, processor, *drawn)).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 25 == 0 or step == args.steps:
            print(f"step {step}/{args.steps}  loss {loss.item():.4f}  {time.monotonic() - began:.0f} s", flush=True)
        if step % 200 == 0 or step == args.steps:
            save(model, args.output_dir)


def save(model, directory: Path):
    """Save the checkpoint; the three modules stay at the repo's root, and the checkpoint links to them."""
    model.generation_config.do_sample = False
    for module in MODULES:
        # save_pretrained copies the modules, which must not go through a link to their own source.
        (directory / module).unlink(missing_ok=True)
    model.save_pretrained(directory)
    if directory.resolve().parent == ROOT:
        for module in MODULES:
            (directory / module).unlink(missing_ok=True)
            (directory / module).symlink_to(Path("..") / module)


if __name__ == "__main__":
    main()
