"""The result file that every run writes and the report reads: what was loaded, how it was asked, and each question."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .loading import Checkpoint, EvaluationError

FORMAT = "circle-rope-evaluation-1"
NAME = "circle_rope_results.json"


@dataclass
class TaskResult:
    """What a harness found on one task.

    `score` is the harness's own, in percent; `questions` has the share, 0 to 1, that each question earned, by its
    name there; `asked` is a digest of what was asked, equal where the questions were the same.
    """

    metric: str
    score: float
    questions: dict[str, float]
    asked: str


@dataclass
class Result:
    """One checkpoint under one harness. `settings` has whatever must be equal for two of them to be compared."""

    harness: str
    checkpoint: str
    model_class: str
    schedule: list[str]
    circle_rope: dict | None
    settings: dict
    tasks: dict[str, TaskResult] = field(default_factory=dict)


def new_result(harness: str, checkpoint: Checkpoint, settings: dict) -> Result:
    """A result without tasks yet.

    Args:
        harness: its name and version.
        checkpoint: what is evaluated.
        settings: see `Result`.
    """
    schedule = list(checkpoint.schedule)
    return Result(harness, checkpoint.name, checkpoint.model_class.__name__, schedule, checkpoint.block, settings)


def digest(questions: list[str]) -> str:
    """A short name for a set of questions, whatever their order."""
    return hashlib.sha256("\n".join(sorted(questions)).encode()).hexdigest()[:16]


def percent(score: float, questions: list[float]) -> float:
    """A harness's score in percent: some report shares of 1 and some percent, and the questions tell which."""
    mean = math.fsum(questions) / len(questions)
    return score if abs(score - 100 * mean) < abs(100 * score - 100 * mean) else 100 * score


def write(result: Result, folder: Path) -> Path:
    """Write `circle_rope_results.json` to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / NAME
    path.write_text(json.dumps({"format": FORMAT, **asdict(result)}, indent=1) + "\n", encoding="utf-8")
    return path


def read(path: Path) -> Result:
    """The result in a file, or in the folder that a run wrote.

    Raises:
        EvaluationError: there is none.
    """
    file = path / NAME if path.is_dir() else path
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        if said.pop("format") != FORMAT:
            raise ValueError("another format")
        said["tasks"] = {name: TaskResult(**task) for name, task in said["tasks"].items()}
        result = Result(**said)
        shares = [share for task in result.tasks.values() for share in task.questions.values()]
        if not shares or not all(isinstance(share, (int, float)) and 0 <= share <= 1 for share in shares):
            raise ValueError("no shares of questions")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise EvaluationError(
            f"{path} is no result of evaluation.lmms or evaluation.vlmevalkit: give the {NAME} that one "
            "wrote, or its folder."
        ) from None
    return result
