"""Share of exact answers on held-out pictures and videos, through the Auto classes as any user loads the checkpoint.

python -m shapes.evaluate --model .
python -m shapes.evaluate --model . --geometry mrope strategy_4

Every sample is a conversation of four turns, in which the model's own answers are the history; "plain" are single
questions about boards of 2 x 2 places, in one way of writing, as the first tiny checkpoint was taught. With
`--lessons` it is asked what `lessons.py` has: more kinds, in two languages, in wordings that training never saw.
"""

import sys

if __spec__ is None:
    print("error: from the repo's root, this is python -m shapes.evaluate", file=sys.stderr)
    sys.exit(2)

import argparse
import json
import random
from collections import Counter
from pathlib import Path

import torch
import transformers
from transformers import AutoProcessor

from . import conversations, lessons
from .branches import process
from .conversations import LAYOUTS
from .lessons import Sample, to_messages
from .pictures import draw, make_questions, make_scene
from .questions import Question

ROOT = Path(__file__).resolve().parent.parent
GEOMETRIES = {"mrope": "mrope", "circle": None} | {name: name for name in ("strategy_2", "strategy_3", "strategy_4")}


def load(model: str):
    """Model and processor of a Circle-RoPE checkpoint, on transformers 4.57 or 5."""
    auto_class = getattr(transformers, "AutoModelForImageTextToText", None) or transformers.AutoModelForVision2Seq
    processor = AutoProcessor.from_pretrained(model, trust_remote_code=True)
    return auto_class.from_pretrained(model, trust_remote_code=True).eval(), processor


def ask(model, processor, pictures: list, questions: list[str], max_new_tokens: int = 64) -> list[str]:
    """One greedy answer for every picture and question, as one batch."""
    conversations = [
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
        for question in questions
    ]
    return answer(model, processor, conversations, [[picture] for picture in pictures], max_new_tokens=max_new_tokens)


def answer(
    model, processor, conversations: list[list[dict]], media: list[list], fps=None, max_new_tokens: int = 64
) -> list[str]:
    """One greedy answer for every conversation, as one batch.

    Args:
        model, processor: as `load` returns them.
        conversations: chat messages, each list up to a question.
        media: for every conversation its PIL pictures and videos (lists of pictures).
        fps: for every conversation the frames a second of its videos; 2 if not given.
    """
    texts = [
        processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        for messages in conversations
    ]
    inputs = process(processor, texts, media, fps, padding=True).to(model.device)
    with torch.inference_mode():
        output = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
    return processor.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def converse(model, processor, samples: list) -> list[list[str]]:
    """The model's answers to the first conversation of every sample, turn by turn, with its own answers as history."""
    messages = [to_messages(sample, sample.conversations[0]) for sample in samples]
    given = [[] for _ in samples]
    for turn, _ in enumerate(samples[0].conversations[0]):
        for sample, talk, answers in zip(samples, messages, given):
            if answers:
                talk[2 * (len(sample.opening) + turn) - 1]["content"][0]["text"] = answers[-1]
        asked = [talk[: 2 * (len(sample.opening) + turn) + 1] for sample, talk in zip(samples, messages)]
        media, fps = [sample.media for sample in samples], [sample.fps for sample in samples]
        for answers, text in zip(given, answer(model, processor, asked, media, fps)):
            answers.append(text.strip())
    return given


def make_plain(rng: random.Random) -> Sample:
    """One question about a held-out board of 2 x 2 places."""
    scene = make_scene(rng, held_out=True)
    question, answer = make_questions(scene, rng, 1)[0]
    kind = " ".join(question.lower().split()[:2])
    return Sample("plain", [draw(scene, rng)], [[Question(question, answer, kind)]])


def measure(
    model, processor, layout: str, scenes: int, batch_size: int, seed: int, make_sample=conversations.make_sample
) -> dict:
    """Shares of exact answers about so many held-out scenes of a layout: all, by turn, language, and kind."""
    rng, right, asked = random.Random(f"{seed} {layout}"), Counter(), Counter()
    for start in range(0, scenes, batch_size):
        size = min(batch_size, scenes - start)
        if layout == "plain":
            samples = [make_plain(rng) for _ in range(size)]
        else:
            samples = [make_sample(rng, layout, held_out=True, conversations=1, turns=4) for _ in range(size)]
        for sample, answers in zip(samples, converse(model, processor, samples)):
            for turn, (question, given) in enumerate(zip(sample.conversations[0], answers), start=1):
                language = getattr(question, "language", "en")
                for name in ("all", f"turn {turn}", language, question.kind, f"{question.kind} {language}"):
                    asked[name] += 1
                    right[name] += given == question.answer
    return {name: round(right[name] / asked[name], 4) for name in sorted(asked)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(ROOT), help="checkpoint directory or hub id")
    parser.add_argument("--scenes", type=int, default=1000, help="held-out scenes of every layout, four turns each")
    parser.add_argument("--layout", nargs="+", choices=["plain", *(LAYOUTS | lessons.LAYOUTS)])
    parser.add_argument("--lessons", action="store_true", help="ask what `lessons.py` has")
    parser.add_argument(
        "--geometry", nargs="+", choices=GEOMETRIES, help="those of the layers; as trained if not given"
    )
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--seed", type=int, default=12345)
    args = parser.parse_args()

    model, processor = load(args.model)
    for geometry in args.geometry or ["as trained"]:
        if geometry != "as trained":
            mode = GEOMETRIES[geometry]
            mode = ["mrope"] * model.config.text_config.num_hidden_layers if mode == "mrope" else mode
            model.set_circle_rope({**model.config.circle_rope, "AGE_mode": mode})
        make_sample = (lessons if args.lessons else conversations).make_sample
        for layout in args.layout or (lessons.LAYOUTS if args.lessons else ["plain", *LAYOUTS]):
            shares = measure(model, processor, layout, args.scenes, args.batch_size, args.seed, make_sample)
            print(json.dumps({"geometry": geometry, "layout": layout, "scenes": args.scenes, **shares}), flush=True)


if __name__ == "__main__":
    main()
