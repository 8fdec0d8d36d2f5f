"""Ask a Circle-RoPE model about a picture and watch it answer.

python -m examples.ask
python -m examples.ask --image photo.jpg --question "What is this?" --model USER/NAME

Without a question, at a terminal, it holds a conversation: `/picture FILE` adds a picture, Ctrl-D ends it.
"""

import sys

if __spec__ is None:
    print("error: from the repo's root, this is python -m examples.ask", file=sys.stderr)
    sys.exit(2)

import argparse
import contextlib
from pathlib import Path

import torch
import transformers
from PIL import Image, UnidentifiedImageError
from transformers import AutoProcessor, TextStreamer
from transformers.generation import GenerateDecoderOnlyOutput

with contextlib.suppress(ImportError):
    import readline  # noqa: F401  # gives the prompt its arrow keys and its history

from circle_rope_imp import MRopeGeometry, per_token_distance, sequence_index
from space.samples import QUESTIONS

ROOT = Path(__file__).resolve().parent.parent

# What generate calls the cache differs from release to release.
CACHE = "cache" if "cache" in GenerateDecoderOnlyOutput.__annotations__ else "past_key_values"
PICTURE = ROOT / "examples" / "shapes.png"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=Path, default=PICTURE, help="picture file")
    parser.add_argument("--question", "--text", help="one question; without it, a conversation")
    parser.add_argument("--model", default=str(ROOT), help="checkpoint directory or hub id")
    parser.add_argument("--max-new-tokens", type=int, default=128)
    return parser.parse_args()


def open_image(path: Path) -> Image.Image:
    try:
        return Image.open(path).convert("RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as a picture ({error}): give a PNG or JPEG file.") from None


def load(name: str):
    """Model and processor through the Auto classes, on transformers 4.57 or 5."""
    print(f"loading {name}", file=sys.stderr)
    auto_class = getattr(transformers, "AutoModelForImageTextToText", None) or transformers.AutoModelForVision2Seq
    try:
        processor = AutoProcessor.from_pretrained(name, trust_remote_code=True)
        model = auto_class.from_pretrained(name, trust_remote_code=True, dtype="auto")
    except Exception as error:  # libraries raise whatever comes at a config that they cannot use
        raise SystemExit(f"error: {name} cannot be loaded: {' '.join(str(error).split())}") from None
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval(), processor


def distances(model, inputs) -> dict[str, float]:
    """Per-Token Distance of this input's first picture under M-RoPE and under the model's circle geometry."""
    input_ids, grids = inputs["input_ids"].cpu(), inputs["image_grid_thw"].cpu()
    blocks = model.model.vision_blocks(input_ids, grids)
    geometries = {"M-RoPE": MRopeGeometry(), "Circle-RoPE": model.config.make_geometry("circle")}
    is_image = input_ids[0] == model.config.image_token_id
    result = {}
    for name, geometry in geometries.items():
        positions = sequence_index(blocks, None, tuple(input_ids.shape), [geometry])[0][:, 0]
        result[name] = per_token_distance(positions[:, ~is_image], positions[:, is_image]).item()
    return result


class Conversation:
    """Questions about pictures and their answers, which are streamed to the terminal, over one cache."""

    def __init__(self, model, processor, max_new_tokens: int):
        self.model, self.processor, self.max_new_tokens = model, processor, max_new_tokens
        self.messages, self.pictures, self.new_pictures = [], [], 0
        self.cache, self.cached_ids = None, None

    def add(self, picture: Image.Image):
        """Show the model a picture, with the next question."""
        self.pictures.append(picture)
        self.new_pictures += 1

    def ask(self, question: str):
        """Stream the answer, and return the processor's inputs.

        Raises:
            ValueError: the question is empty, or contains a token that controls the model.
        """
        if not question.strip():
            raise ValueError("the question is empty: ask something.")
        tokenizer = self.processor.tokenizer
        for token in tokenizer.all_special_tokens:
            if token in question:
                raise ValueError(f"the question contains {token}, which controls the model: leave it out.")
        content = [{"type": "image"}] * self.new_pictures + [{"type": "text", "text": question}]
        self.messages.append({"role": "user", "content": content})
        self.new_pictures = 0
        text = self.processor.apply_chat_template(self.messages, tokenize=False, add_generation_prompt=True)
        inputs = self.processor(text=[text], images=self.pictures, return_tensors="pt").to(self.model.device)
        if self.cache is not None and not self._continues(inputs["input_ids"]):
            self.cache = None
        with torch.inference_mode():
            output = self.model.generate(
                **inputs,
                streamer=TextStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True),
                max_new_tokens=self.max_new_tokens,
                do_sample=False,
                return_dict_in_generate=True,
                **{CACHE: self.cache},
            )
        # The last token has not been through the model.
        self.cache, self.cached_ids = output[CACHE], output.sequences[:, :-1]
        answer = tokenizer.decode(output.sequences[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        self.messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
        return inputs

    def _continues(self, input_ids):
        """Whether the conversation begins as the cache does; an answer may read back as other tokens than it had."""
        return torch.equal(input_ids[:, : self.cached_ids.shape[1]], self.cached_ids)


def talk(conversation: Conversation, examples: tuple[str, ...]):
    """Answer one line after another, until there are no more; `examples` are what may be asked."""
    print("Ask about the picture. /picture FILE adds another one, Ctrl-D ends.")
    if examples:
        print("For example:", *examples)
    while True:
        line = input("\n> ").strip()
        command, _, name = line.partition(" ")
        name = name.strip().strip("\"'")
        try:
            if command == "/picture" and name:
                conversation.add(open_image(Path(name).expanduser()))
                print(f"picture {len(conversation.pictures)}: {name}")
            elif line.startswith("/"):
                raise ValueError(f"{line} is not a command: /picture FILE is the only one.")
            elif line:
                conversation.ask(line)
        except ValueError as error:
            print(f"error: {error}")


def main():
    args = parse_arguments()
    try:
        image = open_image(args.image)
        conversation = Conversation(*load(args.model), args.max_new_tokens)
        conversation.add(image)
        print(f"\n{args.image.name}", end="")
        if args.question is None and sys.stdin.isatty():
            print()
            with contextlib.suppress(EOFError, KeyboardInterrupt):
                talk(conversation, QUESTIONS if args.image == PICTURE else ())
            print()
            return
        question = QUESTIONS[0] if args.question is None else args.question
        print(f": {question}")
        inputs = conversation.ask(question)
    except ValueError as error:
        raise SystemExit(f"error: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None

    print("\nper-token distance of this input (0: every text token is equally far from all image tokens)")
    for name, value in distances(conversation.model, inputs).items():
        print(f"  {name:12} {abs(value):.4f}")


if __name__ == "__main__":
    main()
