"""Convert a Qwen2.5-VL checkpoint to Circle-RoPE or AGE, verify it, and publish it on the Hugging Face Hub.

python push_to_hub.py Qwen/Qwen2.5-VL-3B-Instruct --repo-id USER/Qwen2.5-VL-3B-Circle-RoPE
"""

import argparse
import os
import signal
import sys
from pathlib import Path

from conversion.options import KEYS, read_block

EXAMPLES = """\
examples:
  # convert with the paper's best setting (radius 10, alpha 0.5, AGE strategy_4), into a directory and no further
  python push_to_hub.py Qwen/Qwen2.5-VL-3B-Instruct --output-dir Qwen2.5-VL-3B-Circle-RoPE
  # convert, verify, and publish as a private repository; look first what would go up
  python push_to_hub.py ./Qwen2.5-VL-7B --repo-id USER/NAME --dry-run
  python push_to_hub.py ./Qwen2.5-VL-7B --repo-id USER/NAME
  # a block of your own, as JSON or as a file, or key by key
  python push_to_hub.py ./Qwen2.5-VL-7B --output-dir out --circle-rope '{"radius": "auto", "alpha": 0.7}'
  python push_to_hub.py ./Qwen2.5-VL-7B --output-dir out --circle-rope block.json --age-mode strategy_2
  python push_to_hub.py ./Qwen2.5-VL-7B --output-dir out --radius auto-0.5 --alpha 1
  # many checkpoints, one repository with their code: a correction there reaches all of them
  python push_to_hub.py runs/sft --repo-id USER/NAME --code-repo USER/circle-rope-code
  # what a training run saved: a whole model, or a PEFT adapter
  python push_to_hub.py runs/sft --repo-id USER/NAME --public --license apache-2.0
  python push_to_hub.py runs/lora --repo-id USER/NAME-lora --base-model USER/NAME
"""
PUBLISHING = ("branch", "private", "public", "create_pr", "commit_message")


class Once(argparse.Action):
    """Stores a value, and refuses another one."""

    def __call__(self, parser, namespace, values, option_string=None):
        before = getattr(namespace, self.dest)
        if before is not None and before != values:
            parser.error(f"{option_string} is given twice, as {before} and as {values}: give one of them")
        setattr(namespace, self.dest, values)


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message):
        self.exit(2, f"error: {message} (see --help)\n")


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(
        description="Convert a Qwen2.5-VL checkpoint to Circle-RoPE or AGE, verify it and publish it.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.register("action", None, Once)
    add = parser.add_argument
    add("base", help="directory or hub id: Qwen2.5-VL, Circle-RoPE V1 or V2, what a training run saved, or an adapter")
    add("--output-dir", type=Path, help="new directory for the result; may be left out with --repo-id")
    add("--revision", help="revision of the base on the hub")
    add("--circle-rope", metavar="JSON_OR_FILE", help="keys of the circle_rope block, as JSON or in a JSON file")
    add("--age-mode", metavar="MODE", help="strategy_1 to strategy_4, or a JSON list with circle or mrope per layer")
    add("--radius", help='number, "auto" or "auto-k"')
    add("--alpha", help="number from 0 to 1")
    add("--repo-id", metavar="USER/NAME", help="repository to publish to, made if it is not there")
    add("--branch", help="branch to publish to, made if it is not there (default: main)")
    add("--private", action="store_true", help="make a private repository (default)")
    add("--public", action="store_true", help="make a public repository, or allow one that is public")
    add("--create-pr", action="store_true", help="open a pull request on an existing repository")
    add("--commit-message")
    add("--code-repo", metavar="USER/NAME", help="take the code from this repository, which checkpoints can share")
    add("--license", help="licence for the card (default: the base's own)")
    add("--base-model", metavar="ID", help="hub id of the base for the card, where the files do not say it")
    add("--dry-run", action="store_true", help="print what would be written and uploaded; contact nobody")
    add("--no-upload", action="store_true", help="convert and verify all that would go up, but do not upload")
    return parser.parse_args(arguments)


def check_options(given: argparse.Namespace) -> None:
    """Refuse options that contradict one another, or that need another one.

    Raises:
        ValueError: they do.
    """
    if given.repo_id is None and given.output_dir is None:
        raise ValueError("there is neither --output-dir nor --repo-id: give one of them.")
    for one, other in (
        ("private", "public"),
        ("branch", "create_pr"),
        ("private", "create_pr"),
        ("public", "create_pr"),
    ):
        if getattr(given, one) and getattr(given, other):
            raise ValueError(f"{_option(one)} and {_option(other)} contradict each other: give one of them.")
    for name in PUBLISHING:
        if getattr(given, name) and given.repo_id is None:
            raise ValueError(f"{_option(name)} is for publishing: give --repo-id as well.")


def _option(name):
    return "--" + name.replace("_", "-")


def read_order(given: argparse.Namespace):
    """The `conversion.publish.Order` that the options give.

    Raises:
        ValueError: a block or a repository id that cannot be read.
    """
    block = read_block(given.circle_rope, **{option: getattr(given, option) for option in KEYS})
    # They take seconds: huggingface_hub, torch and transformers.
    from conversion.hub import Target

    target = None
    if given.repo_id is not None:
        message = {"message": given.commit_message} if given.commit_message else {}
        branch = None if given.branch == "main" else given.branch
        target = Target(given.repo_id, branch, given.create_pr, given.public, **message)
    from conversion.publish import Order

    names = ("base", "output_dir", "revision", "code_repo", "license", "base_model", "dry_run", "no_upload")
    return Order(block=block, target=target, **{name: getattr(given, name) for name in names})


def main() -> int:
    given = parse_arguments()
    kept = None
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # clean up then as well
    try:
        check_options(given)
        order = read_order(given)
        from conversion.publish import Publication

        publication = Publication(order)
        publication.prepare()
        if given.dry_run:
            publication.describe()
            return 0
        publication.write()
        kept = publication.output
        if given.repo_id is None and not given.no_upload:
            print(f"{kept} is ready: AutoModelForImageTextToText.from_pretrained(..., trust_remote_code=True)")
            return 0
        if not given.no_upload:
            publication.check_access()
        publication.check()
        if given.no_upload:
            print(f"{kept} is verified and ready to upload")
            return 0
        # The client's threads would finish their files first: stop at once, for nothing here is half-written.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: (_stop(kept), os._exit(130)))
        print(f"published: {publication.upload()}")
    except (ValueError, ImportError, OSError) as error:
        text = " ".join(str(error).split())
        if kept:
            text = f"{text.rstrip('.')}; {kept} is kept, and the same command goes on from there."
        print(f"error: {text}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        _stop(kept)
        return 130
    return 0


def _stop(kept):
    left = f"{kept} is kept, and the same command goes on from there" if kept else "nothing was written"
    sys.stdout.flush()
    print(f"error: interrupted; {left}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
