"""The Space: ask about a picture, compare geometries, see the cone.

python space/app.py
"""

import uploads  # first: it says where gradio keeps its files

# isort: split
import functools
import json
from pathlib import Path

import gradio as gr
from starlette.middleware import Middleware

import api
import handlers
import limits
from page import Words, draw
from samples import EXAMPLES, FOLDER
from style import READ_PAGE, SET_LANGUAGE, SHOW_ANSWER, THEME

HERE = Path(__file__).resolve().parent
# Everything that runs the model waits in one line.
MODEL_LINE = {"concurrency_id": "model", "concurrency_limit": 1}
PRIVATE = {"api_visibility": "private"}
AT_ONCE = {"trigger_mode": "always_last", "show_progress": "hidden", "concurrency_limit": 4, **PRIVATE}


def connect(demo: gr.Blocks, ui, words: Words) -> None:
    """What happens when a visitor does something."""
    see = {
        "fn": handlers.see,
        "inputs": [ui.pictures, ui.question, ui.turns, *ui.sliders, ui.placed, ui.view, ui.dark, ui.lang],
        "outputs": [ui.cone, ui.strip, ui.logits, ui.numbers],
        **AT_ONCE,
    }
    draw_attention = {
        "fn": handlers.draw_attention,
        "inputs": [ui.attended, ui.shown, ui.step, ui.layer, ui.head, ui.opacity, ui.dark, ui.lang],
        "outputs": [ui.left_map, ui.right_map, ui.left_words, ui.right_words],
        **AT_ONCE,
    }
    draw_all = {
        "fn": handlers.draw_all,
        "inputs": [ui.attended, ui.shown, ui.step, ui.lang],
        "outputs": [ui.left_all, ui.right_all],
        **AT_ONCE,
    }

    def draw_everything(event):
        return event.then(**see).then(**draw_attention).then(**draw_all)

    running = [*_answer(ui, see), _compare(ui), _attend(ui, draw_attention, draw_all)]
    ui.stop.click(None, cancels=running, **PRIVATE)
    ui.stop.click(handlers.stop_comparison, [ui.compared, ui.lang], [ui.verdict, ui.cards, ui.compared], **PRIVATE)
    _take_pictures(ui)
    for event in (*_start_over(ui, running), _translate(ui, words)):
        draw_everything(event)
    # In the browser, so that a slider that is moved at once is not set back by a late answer.
    own = json.dumps(handlers.own_settings())
    ui.reset.click(None, None, [ui.geometry, *ui.sliders], js=f"() => {own}", **PRIVATE)
    # A trigger that is deferred by "always_last" is repeated as a whole, with all that it does: so no trigger of these
    # events also asks.
    moved = [slider.change for slider in ui.sliders]
    gr.on([*moved, ui.question.blur, ui.placed.change, ui.view.change, ui.dark.change, ui.see_tab.select], **see)
    chosen = (ui.step, ui.layer, ui.head, ui.opacity, ui.shown, ui.dark)
    gr.on([choice.change for choice in chosen], **draw_attention)
    gr.on([ui.step.change, ui.shown.change], **draw_all)
    draw_everything(demo.load(None, None, [ui.dark, ui.lang], js=READ_PAGE, **PRIVATE))


def _answer(ui, see):
    """Enter in the question sends it, wherever the visitor is; a sample is asked by a click."""
    inputs = [ui.turns, ui.geometry, *ui.sliders, ui.max_new_tokens, ui.temperature, ui.lang]
    shared = {"outputs": [ui.chat, ui.turns, ui.question], **MODEL_LINE, **PRIVATE}
    asking = {"fn": handlers.ask, "inputs": [ui.pictures, ui.question, *inputs], "js": SHOW_ANSWER, **shared}
    asked = gr.on([ui.question.submit, ui.ask.click], **asking)
    sampled = ui.chat.example_select(handlers.choose_sample, None, ui.question, **PRIVATE).then(**asking)
    again = ui.chat.retry(handlers.ask_again, [ui.pictures, *inputs], **shared)
    for event in (asked, sampled, again):
        event.then(**see)
    return asked, sampled, again


def _compare(ui):
    inputs = [ui.pictures, ui.question, ui.turns, *ui.sliders, ui.max_new_tokens, ui.lang]
    shared = {"outputs": [ui.verdict, ui.cards, ui.compared], **MODEL_LINE, **PRIVATE}
    moved = [slider.change for slider in ui.sliders]
    gr.on(moved, handlers.compare_again, [ui.compared, *inputs], trigger_mode="always_last", **shared)
    return ui.compare.click(handlers.compare, inputs, **shared)


def _attend(ui, draw_attention, draw_all):
    attended = ui.attend.click(
        handlers.attend,
        [ui.pictures, ui.question, ui.turns, ui.left, ui.right, *ui.sliders, ui.max_new_tokens, ui.lang],
        [ui.attended, ui.shown, ui.step],
        show_progress_on=[ui.left_map, ui.right_map],
        **MODEL_LINE,
        **PRIVATE,
    )
    attended.then(**draw_attention).then(**draw_all)
    for maps in (ui.left_all, ui.right_all):
        maps.click(handlers.open_one, None, [ui.layer, ui.head], **PRIVATE)
    return attended


def _take_pictures(ui):
    """Uploads are checked one after another, each with all files that are there by then."""
    in_order = {"trigger_mode": "multiple", "concurrency_limit": 1, **PRIVATE}
    ui.pictures.upload(handlers.check_pictures, [ui.pictures, ui.lang], ui.pictures, **in_order)
    for button, example in zip(ui.chosen, EXAMPLES):
        button.click(functools.partial(handlers.choose_example, example), None, [ui.pictures, ui.question], **PRIVATE)


def _start_over(ui, running):
    """What belongs to other pictures goes with them."""
    inputs = [ui.pictures, ui.turns, ui.attended, ui.compared, ui.lang]
    outputs = [ui.turns, ui.chat, ui.attended, ui.compared, ui.verdict, ui.cards]
    yield ui.pictures.change(handlers.change_pictures, inputs, outputs, **PRIVATE)
    yield gr.on([ui.clear.click, ui.chat.clear], handlers.start_over, ui.lang, outputs, cancels=running, **PRIVATE)


def _translate(ui, words):
    def translate(lang, turns, compared, attended):
        return [
            *words.updates(lang),
            handlers.messages_of(turns, lang),
            handlers.show_verdict(compared, lang),
            handlers.show_comparison(compared, lang),
            *handlers.choices_of(attended, lang),
        ]

    inputs = [ui.lang, ui.turns, ui.compared, ui.attended]
    outputs = [*(component for component, _ in words.made), ui.chat, ui.verdict, ui.cards, ui.shown, ui.step]
    return ui.lang.change(translate, inputs, outputs, js=SET_LANGUAGE, show_progress="hidden", **PRIVATE)


def build() -> gr.Blocks:
    """The page and the API."""
    words = Words("en")
    gr.set_static_paths([FOLDER])  # examples are shown from where they are
    with gr.Blocks(title="Circle-RoPE", analytics_enabled=False, delete_cache=uploads.DELETED) as demo:
        api.add_endpoints(MODEL_LINE)  # first: the page's own events get the names that are left
        connect(demo, draw(words), words)
    demo.queue(max_size=limits.MAX_QUEUE, default_concurrency_limit=4)
    return demo


def main():
    build().launch(
        theme=THEME,
        css_paths=HERE / "page.css",
        js=(HERE / "page.js").read_text(),
        max_file_size=limits.MAX_FILE_BYTES,
        show_error=False,
        run_history=False,
        footer_links=["api", "gradio", "settings"],
        ssr_mode=False,
        app_kwargs={"middleware": [Middleware(uploads.Room)]},
    )


if __name__ == "__main__":
    main()
