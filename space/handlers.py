"""What the page's events do: they call tasks.py and show its results, or a visitor's mistakes."""

import contextlib
import functools
import html
import inspect
import itertools
import logging
import re
from pathlib import Path

import gradio as gr
import numpy as np

import limits
import model
import plots
import positions
import tasks
from limits import BadInput
from samples import FOLDER, right_answer
from texts import explain, name_geometry, say, say_schedule

log = logging.getLogger(__name__)


def sentence(error: Exception, lang: str) -> str:
    """What a visitor is told; anything that is not the visitor's mistake goes to the log in full."""
    if isinstance(error, BadInput):
        return explain(error, lang)
    if isinstance(error, gr.Error) and error.title != "ZeroGPU worker error":  # as for a quota that is used up
        return say("no_gpu", lang).format(said=str(error.message).rstrip(". "))
    log.error("a request failed", exc_info=error)
    return say("failed", lang)


def warn(words: str):
    """Show the sentence on the page, until it is closed: gradio's timer of one note also takes away the next ones."""
    gr.Warning(words, duration=None)


def guard(report):
    """A decorator: what a handler raises goes to `report(error, arguments)`, whose result stands for the handler's."""

    def decorate(function):
        @functools.wraps(function)
        def stream(*arguments, **named):
            try:
                yield from function(*arguments, **named)
            except Exception as error:
                yield report(error, arguments)

        @functools.wraps(function)
        def single(*arguments, **named):
            try:
                return function(*arguments, **named)
            except Exception as error:
                return report(error, arguments)

        return stream if inspect.isgeneratorfunction(function) else single

    return decorate


@guard
def polite(error, arguments):
    """One sentence in the language that is the last argument; the page stays as it is."""
    warn(sentence(error, arguments[-1]))
    return gr.skip()


def _shown(gallery):
    return [entry[0] if isinstance(entry, (tuple, list)) else entry for entry in gallery or []]


def paths_of(gallery) -> list[str]:
    """The files of a gallery's value; a visitor's picture takes the place of an example's."""
    shown = _shown(gallery)
    return [path for path in shown if FOLDER not in Path(path).parents] or shown


def sliders_of(auto, radius, alpha, dff_rate):
    """A radius of None is the model's own, which may be no number."""
    return (None if auto else radius, alpha, dff_rate)


def is_about(gallery, asked):
    """Whether a turn, a comparison or an attention was asked about these pictures."""
    return asked["pictures"] == paths_of(gallery)


def turns_about(gallery, turns):
    """The turns about these pictures: others begin a new conversation, also before the page has been told."""
    return [turn for turn in turns if is_about(gallery, turn)]


def last_asked(gallery, turns, question):
    """The conversation as it stands: with the question that is typed, or else with the last one that was asked."""
    asked = [(turn["question"], turn["answer"]) for turn in turns_about(gallery, turns)]
    if (question or "").strip() or not asked:
        return asked, question
    return asked[:-1], asked[-1][0]


def as_text(question):
    """What a visitor wrote, for the chat, which takes Markdown and HTML: every sign of theirs stands for itself."""
    lines = re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", question).splitlines()
    return "\n".join(re.sub(r"^\s+", lambda blanks: "\u00a0" * len(blanks[0]), line) for line in lines)


def messages_of(turns, lang, growing=None):
    """The chat: every answer with the geometry that gave it, and below them a question whose answer still grows."""
    messages = []
    for turn in turns:
        geometry = f"<small>{html.escape(name_geometry(turn['geometry'], lang))}</small>"
        messages += [
            {"role": "user", "content": as_text(turn["question"])},
            {"role": "assistant", "content": f"{turn['answer'] or say('no_answer', lang)}\n\n{geometry}"},
        ]
    if growing:
        messages += [{"role": "user", "content": as_text(growing["question"])}]
        messages += [{"role": "assistant", "content": growing["answer"]}] if growing["answer"] else []
    return messages


def check_pictures(gallery, lang):
    """The gallery after an upload: without files that cannot be taken, which are named, and without an example."""
    good, said, paths = [], [], paths_of(gallery)
    for path in paths:
        try:
            if len(good) == limits.MAX_FILES:
                raise BadInput("too_many_files", given=len(paths), allowed=limits.MAX_FILES)
            limits.open_one(path)
            good.append(path)
        except Exception as error:
            said.append(sentence(error, lang))
    for words in dict.fromkeys(said):
        warn(words)
    return good or [path for path in _shown(gallery) if path not in paths]


def change_pictures(gallery, turns, attended, compared, lang):
    """What was said about other pictures goes."""
    talk = turns == turns_about(gallery, turns)
    attention, cards = (not asked or is_about(gallery, asked) for asked in (attended, compared))
    kept = [talk, talk, attention, cards, cards, cards]
    return [gr.skip() if is_kept else empty for is_kept, empty in zip(kept, start_over(lang))]


def start_over(lang):
    """Turns, chat, attention and comparison are empty."""
    return [[], [], None, None, "", show_comparison(None, lang)]


def choose_example(example):
    """The pictures and the question of an example."""
    return example.files, example.question


def choose_sample(event: gr.SelectData):
    """The question that was clicked in the chat."""
    return event.value["text"]


def ask(gallery, question, turns, geometry, auto, radius, alpha, dff_rate, max_new_tokens, temperature, lang):
    """Streams the chat, the turns and the question box. What goes wrong is said in the chat, and no turn is kept."""
    settings = (geometry, *sliders_of(auto, radius, alpha, dff_rate))
    paths, turns = paths_of(gallery), turns_about(gallery, turns)
    if turns and not (question or "").strip():  # the box is empty because its question has just been answered
        yield gr.skip(), gr.skip(), gr.skip()
        return
    earlier = [(turn["question"], turn["answer"]) for turn in turns]
    try:
        answers = tasks.ask(paths, earlier, question, settings, max_new_tokens, temperature)
        turn = {"question": question.strip(), "answer": "", "geometry": geometry, "pictures": paths}
        yield messages_of(turns, lang, turn), [*turns, turn], ""  # kept also when it is stopped at once
        with contextlib.closing(answers):
            for answer in answers:
                turn = turn | {"answer": answer}
                yield messages_of(turns, lang, turn), [*turns, turn], gr.skip()
        yield messages_of([*turns, turn], lang), [*turns, turn], gr.skip()
    except Exception as error:
        said = {"role": "assistant", "content": sentence(error, lang)}
        yield [*messages_of(turns, lang), said], turns, gr.skip()


def ask_again(gallery, turns, geometry, auto, radius, alpha, dff_rate, max_new_tokens, temperature, lang):
    """The last question once more, under the settings of now."""
    if turns := turns_about(gallery, turns):
        question, turns = turns[-1]["question"], turns[:-1]
        yield from ask(
            gallery, question, turns, geometry, auto, radius, alpha, dff_rate, max_new_tokens, temperature, lang
        )


@polite
def compare(gallery, question, turns, auto, radius, alpha, dff_rate, max_new_tokens, lang):
    """Streams the verdict, the cards, and what they show."""
    earlier, question = last_asked(gallery, turns, question)
    paths, sliders = paths_of(gallery), sliders_of(auto, radius, alpha, dff_rate)
    right = None if earlier else right_answer(paths, question or "")
    for entries in tasks.compare(paths, earlier, question, sliders, max_new_tokens):
        compared = {"question": question, "right": right, "pictures": paths, "entries": entries}
        yield show_verdict(compared, lang), show_comparison(compared, lang), compared


def compare_again(compared, *arguments):
    """A slider has moved: an earlier comparison is brought up to date."""
    if compared:
        yield from compare(*arguments)
    else:
        yield gr.skip(), gr.skip(), gr.skip()


def stop_comparison(compared, lang):
    """What has not been answered will not be."""
    if not compared:
        return gr.skip(), gr.skip(), gr.skip()
    compared = compared | {"entries": [{"stopped": True} | entry for entry in compared["entries"]]}
    return show_verdict(compared, lang), show_comparison(compared, lang), compared


def is_right(answer, right):
    return answer.rstrip(".").casefold() == right.casefold()


def show_verdict(compared: dict | None, lang: str) -> str:
    """One line about all answers, once they are there."""
    answers = [entry["answer"] for entry in compared["entries"] if "answer" in entry] if compared else []
    if not answers or len(answers) < len(compared["entries"]):
        return ""
    right, count = compared["right"], len(answers)
    if right is None:
        return say("verdict", lang).format(count=count, different=len(set(answers)))
    agree = sum(is_right(answer, right) for answer in answers)
    why = say("verdict_why", lang) if agree < count else ""
    return say("verdict_right", lang).format(right=right, agree=agree, count=count) + why


def show_comparison(compared: dict | None, lang: str) -> str:
    """The comparison as HTML; everything that a visitor or the model wrote is escaped."""
    if not compared:
        return f'<p class="empty">{say("compare_empty", lang)}</p>'
    entries, question = compared["entries"], compared["question"]
    cards = "".join(_show_card(entry, compared["right"], lang) for entry in entries)
    return f'<p class="asked">{html.escape(question)}</p><div class="cards">{cards}</div>'


def _show_card(entry, right, lang):
    badge = f'<span class="badge">{say("trained", lang)}</span>' if entry["trained"] else ""
    layers = "".join(f'<i class="{layer}"></i>' for layer in entry["layers"])
    answer, cost = _show_answer(entry, lang)
    if right is not None and "answer" in entry:
        mark = "right" if is_right(entry["answer"], right) else "wrong"
        answer += f' <span class="mark {mark}">{say(f"is_{mark}", lang)}</span>'
    ptd = "" if entry["ptd"] is None else f'<span class="ptd">PTD {show_distance(entry["ptd"])}</span>'
    return (
        f'<article class="card" data-geometry="{entry["geometry"]}"><header>'
        f"<h3>{html.escape(name_geometry(entry['geometry'], lang))}</h3>{badge}</header>"
        f'<div class="layers" aria-hidden="true">{layers}</div>'
        f'<p class="schedule">{say_schedule(entry["geometry"], lang)}</p>'
        f'<p class="answer">{answer}</p><footer><span>{cost}</span>{ptd}</footer></article>'
    )


def _show_answer(entry, lang):
    """The answer of a card and what it cost, or why there is none."""
    if "answer" in entry:
        cost = say("cost", lang).format(milliseconds=round(1000 * entry["seconds"]), tokens=entry["tokens"])
        return html.escape(entry["answer"]) or say("no_answer", lang), cost
    if "stopped" in entry:
        return "", say("stopped", lang)
    return '<span class="pending">...</span>', say("waiting", lang)


def show_distance(value: float) -> str:
    return f"{abs(value):.4f}"


def see(gallery, question, turns, auto, radius, alpha, dff_rate, placed, view, dark, lang):
    """The plots of positions, distances and logits, and the numbers, or what keeps us from drawing."""
    earlier, question = last_asked(gallery, turns, question)
    layout, places, logits, numbers = None, {}, {}, f"<p>{say('ptd_none', lang)}</p>"
    try:
        if gallery or earlier or (question or "").strip():
            sliders = sliders_of(auto, radius, alpha, dff_rate)
            layout, places, distances = tasks.see(paths_of(gallery), earlier, question, sliders)
            if distances:
                logits = {name: positions.logits(layout, places[name]) for name in places}
                numbers = _show_numbers(distances, logits, lang)
    except Exception as error:
        numbers = f"<p>{html.escape(sentence(error, lang))}</p>"
    return (
        plots.draw_positions(layout, places, placed, lang, dark, view),
        plots.draw_distances(layout, logits, lang, dark),
        plots.draw_logits(layout, logits, lang, dark),
        numbers,
    )


def _show_numbers(distances, logits, lang):
    rows = (
        ("ptd", {name: show_distance(value) for name, value in distances.items()}),
        ("spread", {name: f"{seen.spread:.3f}" for name, seen in logits.items()}),
    )
    heads = "".join(f"<th scope=col>{say(f'{name}_plot', lang)}</th>" for name in distances)
    lines = "".join(
        f"<tr><th scope=row>{say(key, lang)}</th>"
        + "".join(f'<td id="{name}_{key}">{value}</td>' for name, value in values.items())
        for key, values in rows
    )
    return f"<table><tr><td></td>{heads}</tr>{lines}</table>"


@polite
def attend(gallery, question, turns, left, right, auto, radius, alpha, dff_rate, max_new_tokens, lang):
    """What `draw_attention` draws, kept for the page, and the choices of pictures and of words of the answers."""
    earlier, question = last_asked(gallery, turns, question)
    paths, sliders = paths_of(gallery), sliders_of(auto, radius, alpha, dff_rate)
    frames, results = tasks.attend(paths, earlier, question, [left, right], sliders, max_new_tokens)
    for _, image in frames:
        image.thumbnail((512, 512))  # it is kept as long as the page is open
    asked = {"question": question, "pictures": paths, "geometries": [left, right]}
    kept = asked | {"frames": frames, "results": results}
    return kept, *choices_of(kept, lang)


def choices_of(kept, lang):
    """The choices of a picture and of a word of the answers."""
    frames = kept["frames"] if kept else []
    choices = [(plots.frame_name(frame, lang), number) for number, (frame, _) in enumerate(frames)]
    shown = gr.update(choices=choices, value=0 if choices else None, visible=len(choices) > 1)
    return shown, gr.update(choices=step_choices(kept, lang), value=0)


def step_choices(kept, lang):
    """The whole answer, then each of its tokens: what both answers have at that place."""
    results = kept["results"] if kept else []
    pairs = itertools.zip_longest(*(result.tokens for result in results), fillvalue="")
    said = [" | ".join(dict.fromkeys(filter(None, map(str.strip, tokens)))) for tokens in pairs]
    return [(say("all_steps", lang), 0), *((f"{n}: {words}", n) for n, words in enumerate(said, 1))]


def _frame(kept, number):
    return min(int(number or 0), len(kept["frames"]) - 1)


def draw_attention(kept, number, step, layer, head, opacity, dark, lang):
    """Both heat maps with their captions."""
    if not kept:
        empty = plots.draw_attention(None, None, 0, lang, dark)
        return empty, empty, "", ""
    number = _frame(kept, number)
    _, image = kept["frames"][number]
    chosen = [tasks.choose(result.weights, layer, head, int(step or 0)) for result in kept["results"]]
    maps = [tasks.split_maps(kept["frames"], weights)[number] for weights in chosen]
    largest = max(float(weights.max()) for weights in maps)
    figures = [plots.draw_attention(image, weights, largest, lang, dark, opacity) for weights in maps]
    captions = [
        say("attention_caption", lang).format(
            geometry=name_geometry(geometry, lang),
            answer=html.escape(result.text) or say("no_answer", lang),
            share=f"{100 * float(weights.sum()):.1f}",
        )
        for geometry, result, weights in zip(kept["geometries"], kept["results"], maps)
    ]
    return *figures, *captions


def draw_all(kept, number, step, lang):
    """For both geometries, the maps of every layer and head as HTML, all in one scale."""
    if not kept:
        return "", ""
    number = _frame(kept, number)
    chosen = [tasks.at_step(result.weights, int(step or 0)) for result in kept["results"]]
    both = [
        [[tasks.split_maps(kept["frames"], head)[number] for head in layer] for layer in weights] for weights in chosen
    ]
    largest = float(np.max(both))
    return [_show_maps(layers, largest, lang) for layers in both]


def _show_maps(layers, largest, lang):
    parts = [f'<div class="maps" style="grid-template-columns: auto repeat({len(layers[0])}, 1fr)"><span></span>']
    parts += [f"<span>{say('head', lang)} {head}</span>" for head in range(len(layers[0]))]
    for layer, heads in enumerate(layers):
        parts.append(f"<span>{say('layer', lang)} {layer}</span>")
        for head, weights in enumerate(heads):
            name = say("open_map", lang).format(layer=layer, head=head, share=f"{100 * float(weights.sum()):.1f}")
            parts.append(
                f'<button data-layer="{layer}" data-head="{head}" aria-label="{name}" title="{name}">'
                f'<img alt="" src="{plots.small_map(weights, largest)}"></button>'
            )
    return "".join(parts) + "</div>"


def open_one(event: gr.EventData):
    """The layer and the head whose map was clicked."""
    return event.layer, event.head


def own_settings():
    """The model's own geometry, whether its radius is no number, radius, alpha and dff_rate."""
    is_auto = isinstance(model.OWN_RADIUS, str)
    return model.OWN_SCHEDULE, is_auto, 10 if is_auto else model.OWN_RADIUS, model.OWN_ALPHA, model.OWN_DFF_RATE
