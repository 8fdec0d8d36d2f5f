"""Push the Space to the Hub, or lay its files out in a directory.

python space/push.py USER/NAME
"""

import argparse
import contextlib
import shutil
import sys
import tempfile
from pathlib import Path

from huggingface_hub import HfApi, RepoCard
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError
from huggingface_hub.utils import validate_repo_id

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
# Of the root, the files that are its checkpoint.
CHECKPOINT = ("*.json", "*.jinja", "merges.txt", "*.safetensors", "*circle_rope*.py")
LEFT_OUT = shutil.ignore_patterns("tests", "push.py", "screenshots", "make_examples.py", "__pycache__", ".*", "tiny")

EXAMPLES = """\
examples:
  python space/push.py USER/NAME                      # with the tiny checkpoint
  python space/push.py USER/NAME --model USER/MODEL   # with another converted model of the Hub
  python space/push.py USER/NAME --output-dir out     # only lay the files out
"""


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Push the Space to the Hub, ready to run.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("repo_id", metavar="USER/NAME", help="the Space; it is made if it is not there")
    parser.add_argument("--model", metavar="USER/MODEL", help="hub id of a converted model, instead of the tiny one")
    parser.add_argument("--private", action="store_true", help="make a new Space private")
    parser.add_argument("--output-dir", type=Path, help="new directory to lay the files out in, instead of pushing")
    return parser.parse_args(arguments)


def lay_out(directory: Path, repo_id: str, model: str | None) -> None:
    """Write the Space's files to `directory`, with the tiny checkpoint unless there is a `model`."""
    shutil.copytree(HERE, directory, ignore=LEFT_OUT, dirs_exist_ok=True)
    if model is None:
        (directory / "tiny").mkdir()
        for path in (path for pattern in CHECKPOINT for path in ROOT.glob(pattern)):
            shutil.copyfile(path, directory / "tiny" / path.name)
    card = RepoCard.load(directory / "README.md", ignore_metadata_errors=False)
    card.data.thumbnail = f"https://huggingface.co/spaces/{repo_id}/resolve/main/thumbnail.png"
    card.data.suggested_hardware = "cpu-basic" if model is None else "zero-a10g"
    if model is not None:
        card.data.models = [model]
    card.save(directory / "README.md")


def push(repo_id: str, model: str | None, private: bool) -> str:
    """Upload the Space in one commit and return its address; a new Space that stays empty is deleted again."""
    api = HfApi()
    space = {"repo_id": repo_id, "repo_type": "space"}
    with tempfile.TemporaryDirectory() as folder:
        lay_out(Path(folder), repo_id, model)
        is_new = not api.repo_exists(**space)
        variables = [] if model is None else [{"key": "MODEL_ID", "value": model}]
        url = api.create_repo(
            **space, space_sdk="gradio", private=private, exist_ok=True, space_variables=variables or None
        )
        try:
            for variable in variables if not is_new else []:
                api.add_space_variable(repo_id, **variable)
            api.upload_folder(**space, folder_path=folder, commit_message="The Circle-RoPE Space")
        except BaseException:
            if is_new:
                with contextlib.suppress(HfHubHTTPError, OSError):
                    api.delete_repo(**space)
            raise
    return str(url)


def check(arguments: argparse.Namespace) -> None:
    """Raise ValueError when an argument is not what it must be."""
    for name, repo_id in (("USER/NAME", arguments.repo_id), ("--model", arguments.model)):
        if repo_id is None:
            continue
        try:
            validate_repo_id(repo_id)
        except HFValidationError:
            raise ValueError(f"{name} is {repo_id!r}, but must be a hub id such as USER/NAME.") from None
        if "/" not in repo_id:
            raise ValueError(f"{name} is {repo_id!r}, but must name its owner too: give USER/NAME.")
    directory = arguments.output_dir
    if directory is not None and directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ValueError(f"--output-dir {directory} is there already: give a new or empty directory.")


def main() -> int:
    arguments = parse_arguments()
    try:
        check(arguments)
        if arguments.output_dir is not None:
            lay_out(arguments.output_dir, arguments.repo_id, arguments.model)
            variable = f"MODEL_ID={arguments.model} " if arguments.model else ""
            print(f"{arguments.output_dir} is ready: {variable}python {arguments.output_dir / 'app.py'}")
        else:
            print(push(arguments.repo_id, arguments.model, arguments.private))
    except LocalTokenNotFoundError:
        print("error: not logged in to the Hub: run `hf auth login` first.", file=sys.stderr)
        return 1
    except (HfHubHTTPError, OSError, ValueError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
