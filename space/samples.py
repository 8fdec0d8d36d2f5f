"""What a visitor can pick instead of bringing a picture: files of `examples/`, which `make_examples.py` has drawn."""

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "examples"
# With these a chat about shapes opens, here and in the repo's `examples/ask.py`.
QUESTIONS = ("Where is the red circle?", "How many shapes are there?", "What is below the red circle?")


@dataclass(frozen=True)
class Example:
    """Pictures or a video, the one that the list shows, a question about them, and the right answer."""

    names: tuple[str, ...]
    question: str
    answer: str

    @property
    def files(self) -> list[str]:
        return [str(FOLDER / name) for name in self.names]

    @property
    def shown(self) -> str:
        return str((FOLDER / self.names[0]).with_suffix(".png"))


# Chosen because the geometries give different answers.
EXAMPLES = (
    Example(("shapes_1.png",), "What is below the red circle?", "a black cross"),
    Example(("shapes_2.png",), "What do you see?", "blue circle, yellow triangle, green square, purple cross"),
    Example(("shapes_3.png",), "What is at the bottom right?", "a black cross"),
    Example(("shapes_4.png", "shapes_5.png"), "Where is the red cross in the second picture?", "bottom left"),
    Example(("moving.mp4",), "Where is the blue square at the start?", "top right"),
)


def right_answer(paths: list[str], question: str) -> str | None:
    """The answer of the example that is asked, if it is one."""
    return next((one.answer for one in EXAMPLES if (one.files, one.question) == (paths, question.strip())), None)
