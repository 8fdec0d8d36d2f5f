"""Convert a Qwen2.5-VL checkpoint to Circle-RoPE or AGE.

python push_to_hub.py Qwen/Qwen2.5-VL-3B-Instruct --output-dir Qwen2.5-VL-3B-Circle-RoPE
"""

import argparse
import json
import sys
from pathlib import Path

EXAMPLES = """\
examples:
  # the paper's best setting (radius 10, alpha 0.5, AGE strategy_4)
  python push_to_hub.py Qwen/Qwen2.5-VL-3B-Instruct --output-dir Qwen2.5-VL-3B-Circle-RoPE
  # a block of your own, as JSON or as a file, and another schedule
  python push_to_hub.py ./Qwen2.5-VL-7B --output-dir out --circle-rope '{"radius": "auto", "alpha": 0.7}'
  python push_to_hub.py ./Qwen2.5-VL-7B --output-dir out --circle-rope block.json --age-mode strategy_2
"""


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Convert a Qwen2.5-VL checkpoint to Circle-RoPE or AGE; the weights stay as they are.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "base",
        help="checkpoint directory or hub id: Qwen2.5-VL as published or saved by transformers, or Circle-RoPE V1/V2",
    )
    parser.add_argument("--output-dir", type=Path, required=True, help="new directory for the converted checkpoint")
    parser.add_argument("--revision", help="revision of the base on the hub")
    parser.add_argument(
        "--circle-rope", metavar="JSON_OR_FILE", help="keys of the circle_rope block, as JSON or in a JSON file"
    )
    parser.add_argument(
        "--age-mode",
        metavar="MODE",
        help="strategy_1 to strategy_4, or a JSON list with circle or mrope for every layer",
    )
    return parser.parse_args(arguments)


def read_block(circle_rope: str | None, age_mode: str | None) -> dict:
    """The `circle_rope` block that the options give.

    Raises:
        ValueError: no JSON object, or two different schedules.
    """
    block = {}
    if circle_rope is not None:
        is_json = circle_rope.lstrip().startswith("{")
        try:
            block = json.loads(circle_rope if is_json else Path(circle_rope).read_text(encoding="utf-8"))
        except OSError:
            raise ValueError(
                f"--circle-rope {circle_rope} is neither a JSON object nor a file that can be read: give one of them."
            ) from None
        except ValueError as error:
            raise ValueError(f"--circle-rope {circle_rope} is not valid JSON ({error}): give a JSON object.") from None
        if not isinstance(block, dict):
            raise ValueError(f'--circle-rope {circle_rope} holds no JSON object: give one, such as {{"radius": 10}}.')
    if age_mode is not None:
        try:
            mode = json.loads(age_mode) if age_mode.startswith("[") else age_mode
        except ValueError as error:
            raise ValueError(f"--age-mode {age_mode} is not a valid JSON list ({error}): give one.") from None
        if block.get("AGE_mode", mode) != mode:
            raise ValueError(f"--circle-rope says AGE_mode {block['AGE_mode']!r} and --age-mode {mode!r}: give one.")
        block["AGE_mode"] = mode
    return block


def main() -> int:
    arguments = parse_arguments()
    try:
        block = read_block(arguments.circle_rope, arguments.age_mode)
        from conversion.base import fetch
        from conversion.convert import convert

        convert(fetch(arguments.base, arguments.revision), arguments.output_dir, block)
    except (ValueError, ImportError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: interrupted, nothing was written", file=sys.stderr)
        return 130
    print(f"{arguments.output_dir} is ready: AutoModelForImageTextToText.from_pretrained(..., trust_remote_code=True)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
