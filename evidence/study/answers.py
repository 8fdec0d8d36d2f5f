"""What a model answers, and the test sets: one per seed, shared by all arms of that seed."""

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

from .batches import make_batch, prefix_length
from .boards import Board, Example, Question, make_example, place_names

TOGETHER = 16  # examples that are asked about at once
RIGHT, WRONG, IMPOSSIBLE = "1", "0", "x"


def in_parts(items: list) -> Iterator[list]:
    """The items, as many at a time as are asked about at once."""
    return (items[begin : begin + TOGETHER] for begin in range(0, len(items), TOGETHER))


class Answers(NamedTuple):
    """Of `n` examples with `q` questions each.

    Attributes:
        exact: bool `(n, q)`; whether every token of the answer, its end included, is the model's first choice given
            the right ones before: then, and only then, greedy decoding gives exactly this answer.
        chosen: int64 `(n, q, longest)`; the model's first choice for every token of an answer, -100 elsewhere.
        margin: float `(n, q)`; the logit of the answer's first token less the largest of all others.
    """

    exact: torch.Tensor
    chosen: torch.Tensor
    margin: torch.Tensor


@torch.no_grad()
def answer(model, processor, pictures: list, asked: list[list[Question]], move: Callable | None = None) -> Answers:
    """What the model answers to the questions.

    Args:
        model, processor: of `make_model`.
        pictures: for every example a tuple of PIL pictures, all of one size.
        asked: for every example the same number of questions.
        move: changes the positions, float32 `(3 * geometries, n, tokens)`, in place, given the length of what stands
            before the questions.
    """
    batch = make_batch(model, processor, pictures, [[(each.text, each.answer) for each in some] for some in asked])
    begin = prefix_length(model, batch)
    if move:
        move(batch["position_ids"], begin)
    labels = batch.pop("labels")[:, begin:]
    logits = model(**batch).logits[:, begin - 1 : -1]
    shape = len(asked), len(asked[0]), -1
    answered, labels = (labels != -100).view(shape), labels.view(shape)
    chosen = logits.argmax(-1).view(shape).masked_fill(~answered, -100)
    first = answered.int().argmax(-1, keepdim=True)
    logits = logits.view(*labels.shape, -1).take_along_dim(first[..., None], 2).squeeze(2)
    wanted = labels.take_along_dim(first, 2)
    others = logits.scatter(-1, wanted, float("-inf")).amax(-1)
    margin = logits.take_along_dim(wanted, -1).squeeze(-1) - others
    return Answers((chosen == labels).all(-1), chosen, margin)


def held_out_examples(
    task, boards: tuple[Board, ...], seed: str, pictures: int, questions: int
) -> Iterator[tuple[Example, list[Question]]]:
    """Held-out examples with their questions, `pictures` of every board, board by board; nothing is drawn yet."""
    rng = random.Random(seed)
    for board in boards:
        for _ in range(pictures):
            example = make_example(task, rng, board, held_out=True)
            yield example, task.ask(example, rng, questions)


def make_test(task, test: str, seed: int, scale) -> list[tuple[Example, list[Question]]]:
    """A test's examples with their questions: the seed, and no arm, is what they depend on."""
    return list(
        held_out_examples(task, task.TESTS[test], f"test {test} {seed}", scale.board_pictures, scale.questions)
    )


def questions_of(task, test: str, seed: int, scale) -> dict[str, list[tuple[int, Board, Question]]]:
    """By kind, (number of the example, board, question) for every outcome that a record has of a test, in order."""
    found = defaultdict(list)
    for number, (example, asked) in enumerate(make_test(task, test, seed, scale)):
        for question in asked:
            found[question.kind].append((number, example.board, question))
    return dict(found)


def evaluate(model, processor, task, examples: list[tuple[Example, list[Question]]]) -> dict[str, str]:
    """By kind, the outcome of every question in turn: right, wrong, or an impossible place.

    Impossible is an answer to "Where is" that names no place of the board, each of its words being the model's choice
    given the right one before.
    """
    model.eval()
    outcomes = defaultdict(list)
    for some in in_parts(examples):
        asked = [questions for _, questions in some]
        found = answer(model, processor, [task.draw(example) for example, _ in some], asked)
        for (example, questions), exact, chosen in zip(some, found.exact.tolist(), found.chosen):
            for question, is_right, tokens in zip(questions, exact, chosen):
                outcome = RIGHT if is_right else WRONG
                if question.kind == "Where is" and not is_right:
                    words = processor.tokenizer.decode(tokens[tokens != -100], skip_special_tokens=True)
                    if words.strip() not in place_names(example.board):
                        outcome = IMPOSSIBLE
                outcomes[question.kind].append(outcome)
    model.train()
    return {kind: "".join(each) for kind, each in sorted(outcomes.items())}


def share(outcomes: dict[str, str], outcome: str = RIGHT) -> float:
    """Share of one outcome over all questions."""
    return sum(each.count(outcome) for each in outcomes.values()) / sum(map(len, outcomes.values()))


def chance(asked: list[tuple[int, Board, Question]]) -> float:
    """Share of right answers of the best guess without a look: every board's most frequent answer, or one of two."""
    if asked[0][2].kind == "Which is":
        return 0.5
    by_board = defaultdict(Counter)
    for _, board, question in asked:
        by_board[board][question.answer] += 1
    return sum(max(each.values()) for each in by_board.values()) / len(asked)
