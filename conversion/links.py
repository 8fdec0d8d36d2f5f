"""Git without symbolic links writes the text of a link in its place, which Python cannot run."""

from pathlib import Path


def refuse_texts_of_links(directory: str | Path) -> None:
    """Refuse a checkpoint directory whose modules are such texts; anything else, a hub id too, goes through.

    Raises:
        ValueError: they are.
    """
    for path in Path(directory).glob("*.py"):
        if path.stat().st_size < 200 and path.read_text(encoding="utf-8").strip() == f"../{path.name}":
            raise ValueError(
                f"{path} holds the text of a symbolic link, because this clone was made without them: clone again "
                "with `git clone -c core.symlinks=true` (on Windows in developer mode), or copy the three modules of "
                "the repo's root over those in the directory."
            )
