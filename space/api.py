"""The named endpoints, for gradio_client and plain HTTP: the same tasks as on the page, with plain values."""

from pathlib import Path

import gradio as gr
from gradio import processing_utils

import limits
import model
import tasks
import uploads
from handlers import guard, sentence
from limits import BadInput


async def _refuse_address(url: str, cache_dir: str):
    raise gr.Error(
        "A file was given as an address, but files must be uploaded: download it and send it.", print_exception=False
    )


# Gradio would fetch whatever a request names, whole and of any size.
processing_utils.async_ssrf_protected_download = _refuse_address

Pictures = list[gr.FileData]
History = list[list[str]] | None


@guard
def _polite(error, arguments):
    raise gr.Error(sentence(error, "en"), print_exception=False) from None


def _paths(pictures):
    """Paths of uploaded files, and of nothing else on this machine."""
    paths = []
    if not isinstance(pictures or [], list):
        raise BadInput("bad_list", name="pictures")
    for picture in pictures or []:
        path = picture.get("path") if isinstance(picture, dict) else None
        if not isinstance(path, str):
            raise BadInput("bad_list", name="pictures")
        if uploads.FOLDER not in Path(path).resolve().parents:
            raise BadInput("file_gone", name=Path(path).name[:40])
        paths.append(path)
    return paths


def _turns(history):
    """Earlier questions and answers, checked like a new question."""
    turns = []
    for turn in history or []:
        if not isinstance(turn, (list, tuple)) or len(turn) != 2 or not all(isinstance(part, str) for part in turn):
            raise BadInput("bad_history")
        question = limits.check_question(turn[0], model.SPECIAL_TOKENS)
        answer = limits.check_question(turn[1], model.SPECIAL_TOKENS) if turn[1].strip() else ""
        turns.append((question, answer))
    return turns


@_polite
def ask(
    pictures: Pictures,
    question: str,
    history: History = None,
    geometry: str = model.OWN_SCHEDULE,
    radius: float | None = None,
    alpha: float | None = None,
    dff_rate: float | None = None,
    max_new_tokens: int = 128,
    temperature: float = 0.0,
) -> str:
    """The answer to a question about pictures, streamed. `history` holds earlier [question, answer] pairs."""
    settings = (geometry, radius, alpha, dff_rate)
    answer = ""
    for answer in tasks.ask(_paths(pictures), _turns(history), question, settings, max_new_tokens, temperature):
        yield answer
    yield answer.strip()


@_polite
def compare(
    pictures: Pictures,
    question: str,
    radius: float | None = None,
    alpha: float | None = None,
    dff_rate: float | None = None,
    max_new_tokens: int = 128,
) -> list[dict]:
    """Answer, seconds, tokens, layers and mean Per-Token Distance under every geometry, one dict for each."""
    return list(tasks.compare(_paths(pictures), [], question, (radius, alpha, dff_rate), max_new_tokens))[-1]


@_polite
def positions(
    pictures: Pictures,
    question: str,
    history: History = None,
    radius: float | None = None,
    alpha: float | None = None,
    dff_rate: float | None = None,
) -> dict:
    """Tokens, their (t, h, w) index under `mrope` and `circle`, and the Per-Token Distance of each."""
    layout, places, distances = tasks.see(_paths(pictures), _turns(history), question, (radius, alpha, dff_rate))
    return {
        "tokens": layout.tokens,
        "is_vision": layout.is_vision.tolist(),
        "mrope": places["mrope"].tolist(),
        "circle": places["circle"].tolist(),
        "ptd": distances,
    }


@_polite
def attention(
    pictures: Pictures,
    question: str,
    geometry: str = model.OWN_SCHEDULE,
    layer: int = -1,
    head: int = -1,
    radius: float | None = None,
    alpha: float | None = None,
    dff_rate: float | None = None,
    max_new_tokens: int = 128,
) -> dict:
    """The answer and its attention to every picture, rows by columns; a layer or head of -1 is the mean over them."""
    layer = limits.check_number("layer", layer, -1, model.LAYERS - 1, whole=True)
    head = limits.check_number("head", head, -1, model.HEADS - 1, whole=True)
    sliders = (radius, alpha, dff_rate)
    frames, results = tasks.attend(_paths(pictures), [], question, [geometry], sliders, max_new_tokens)
    maps = tasks.split_maps(frames, tasks.choose(results[0].weights, layer, head))
    return {"answer": results[0].text, "attention": [weights.tolist() for weights in maps]}


def add_endpoints(line: dict):
    """Add every endpoint to the page that is being built; those that run the model wait in its line."""
    gr.api(ask, api_name="ask", **line)
    gr.api(compare, api_name="compare", **line)
    gr.api(positions, api_name="positions", concurrency_limit=2)
    gr.api(attention, api_name="attention", **line)
