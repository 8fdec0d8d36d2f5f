"""Ask a Circle-RoPE model about a picture and watch it answer.

python examples/ask.py
python examples/ask.py --image photo.jpg --question "What is this?" --model USER/NAME
"""

import argparse
import sys
from pathlib import Path

import torch
import transformers
from PIL import Image, UnidentifiedImageError
from transformers import AutoProcessor, TextStreamer

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from circle_rope_imp import MRopeGeometry, per_token_distance, sequence_index  # noqa: E402


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=Path, default=ROOT / "examples" / "shapes.png", help="picture file")
    parser.add_argument("--question", "--text", default="Where is the red circle?")
    parser.add_argument("--model", default=str(ROOT / "tiny"), help="checkpoint directory or hub id")
    parser.add_argument("--max-new-tokens", type=int, default=128)
    return parser.parse_args()


def open_image(path: Path) -> Image.Image:
    try:
        return Image.open(path).convert("RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise SystemExit(f"error: {path} cannot be read as a picture ({error}): give a PNG or JPEG file.") from None


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


def main():
    args = parse_arguments()
    image = open_image(args.image)
    model, processor = load(args.model)
    conversation = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": args.question}]}]
    text = processor.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
    inputs = processor(text=[text], images=[image], return_tensors="pt").to(model.device)

    print(f"\n{args.image.name}: {args.question}")
    streamer = TextStreamer(processor.tokenizer, skip_prompt=True, skip_special_tokens=True)
    with torch.inference_mode():
        model.generate(**inputs, streamer=streamer, max_new_tokens=args.max_new_tokens, do_sample=False)

    print("\nper-token distance of this input (0: every text token is equally far from all image tokens)")
    for name, value in distances(model, inputs).items():
        print(f"  {name:12} {abs(value):.4f}")


if __name__ == "__main__":
    main()
