"""What a visitor can pick instead of bringing a picture: files of `examples/`, which `make_examples.py` has drawn."""

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "examples"


@dataclass(frozen=True)
class Example:
    """Pictures or a video, the one that the list shows, and a question about them."""

    names: tuple[str, ...]
    question: str

    @property
    def files(self) -> list[str]:
        return [str(FOLDER / name) for name in self.names]

    @property
    def shown(self) -> str:
        return str((FOLDER / self.names[0]).with_suffix(".png"))


EXAMPLES = (
    Example(("shapes_1.png",), "Where is the red circle?"),
    Example(("shapes_2.png",), "How many shapes are there?"),
    Example(("shapes_3.png",), "What colour is the triangle?"),
    Example(("shapes_4.png", "shapes_5.png"), "What is at the top left in the first picture?"),
    Example(("moving.mp4",), "Which way does the blue square move?"),
)
