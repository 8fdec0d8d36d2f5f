"""Share of exact answers on held-out pictures, through the Auto classes as any user loads the checkpoint.

python shapes/evaluate.py --model tiny
"""

import argparse
import json
import random
from collections import Counter
from pathlib import Path

import torch
import transformers
from transformers import AutoProcessor

from pictures import draw, make_questions, make_scene

ROOT = Path(__file__).resolve().parent.parent


def load(model: str):
    """Model and processor of a Circle-RoPE checkpoint, on transformers 4.57 or 5."""
    auto_class = getattr(transformers, "AutoModelForImageTextToText", None) or transformers.AutoModelForVision2Seq
    processor = AutoProcessor.from_pretrained(model, trust_remote_code=True)
    return auto_class.from_pretrained(model, trust_remote_code=True).eval(), processor


def ask(model, processor, pictures: list, questions: list[str], max_new_tokens: int = 16) -> list[str]:
    """One greedy answer for every picture and question, as one batch."""
    texts = [
        processor.apply_chat_template(
            [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}],
            tokenize=False,
            add_generation_prompt=True,
        )
        for question in questions
    ]
    inputs = processor(text=texts, images=pictures, padding=True, return_tensors="pt").to(model.device)
    with torch.inference_mode():
        output = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
    return processor.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(ROOT / "tiny"), help="checkpoint directory or hub id")
    parser.add_argument("--pictures", type=int, default=1000, help="held-out pictures, one question each")
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--seed", type=int, default=12345)
    args = parser.parse_args()

    model, processor = load(args.model)
    rng = random.Random(args.seed)
    right, asked = Counter(), Counter()
    for start in range(0, args.pictures, args.batch_size):
        scenes = [make_scene(rng, held_out=True) for _ in range(min(args.batch_size, args.pictures - start))]
        pictures = [draw(scene, rng) for scene in scenes]
        questions, answers = zip(*(make_questions(scene, rng, 1)[0] for scene in scenes))
        for question, answer, given in zip(questions, answers, ask(model, processor, pictures, questions)):
            kind = " ".join(question.split()[:2])
            asked[kind] += 1
            right[kind] += given.strip() == answer
        print(f"{asked.total()}/{args.pictures} pictures, {right.total() / asked.total():.1%} exact", flush=True)
    by_kind = {kind: round(right[kind] / asked[kind], 4) for kind in sorted(asked)}
    print(json.dumps({"pictures": asked.total(), "exact": right.total() / asked.total(), "by_kind": by_kind}))


if __name__ == "__main__":
    main()
