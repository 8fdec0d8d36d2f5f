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


def conversation(questions: list[tuple[str, str]]) -> list[dict]:
    """A chat in which all questions about one picture are asked one after the other."""
    messages = []
    for number, (question, answer) in enumerate(questions):
        parts = ([{"type": "image"}] if number == 0 else []) + [{"type": "text", "text": question}]
        messages.append({"role": "user", "content": parts})
        messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    return messages


def make_batch(processor, rng: random.Random, size: int, questions_per_picture: int, most_things: int = 4) -> dict:
    """A batch of training samples; only the assistant's turns are learned."""
    texts, pictures = [], []
    for _ in range(size):
        scene = make_scene(rng, held_out=False, fewest=min(2, most_things), most=most_things)
        pictures.append(draw(scene, rng))
        messages = conversation(make_questions(scene, rng, questions_per_picture))
        texts.append(processor.apply_chat_template(messages, tokenize=False))
    batch = processor(text=texts, images=pictures, padding=True, return_tensors="pt")
    batch["labels"] = answers_only(batch["input_ids"], processor.tokenizer)
    return batch


def answers_only(input_ids: torch.Tensor, tokenizer) -> torch.Tensor:
    """Labels for the assistant's turns, from behind `<|im_start|>assistant\\n` to `<|im_end|>`, and -100 elsewhere."""
    opening = torch.tensor(tokenizer.encode("<|im_start|>assistant\n", add_special_tokens=False))
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    windows = input_ids.unfold(1, len(opening), 1)
    labels = torch.full_like(input_ids, -100)
    for row, start in (windows == opening).all(-1).nonzero().tolist():
        first = start + len(opening)
        last = first + (input_ids[row, first:] == end).nonzero()[0, 0]
        labels[row, first : last + 1] = input_ids[row, first : last + 1]
    return labels


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output-dir", type=Path, required=True, help="where the checkpoint goes")
    parser.add_argument("--steps", type=int, default=1600)
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
    model = Qwen2_5_VLForConditionalGeneration_CircleRoPE_V2(config).to(args.device)
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
        # Pictures of a single thing first: which word belongs to which picture is learned soonest there.
        most_things = min(4, 1 + 10 * step // args.steps)
        batch = make_batch(processor, rng, args.batch_size, args.questions, most_things).to(args.device)
        batch.pop("mm_token_type_ids", None)
        loss = model(**batch).loss
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
