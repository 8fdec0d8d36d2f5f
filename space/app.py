"""The Space: ask about a picture, compare geometries, see the cone.

python space/app.py
"""

import uploads  # first: it says where gradio keeps its files

# isort: split
import functools

import gradio as gr
from starlette.middleware import Middleware

import api
import handlers
import limits
from examples import EXAMPLES, FOLDER
from page import Words, draw
from style import CSS, LEAVE, NOW, OTHERS, PASTE, READ_PAGE, SCRIPT, SET_LANGUAGE, SHOW_ANSWER, THEME, UPLOADED

# Everything that runs the model waits in one line.
MODEL_LINE = {"concurrency_id": "model", "concurrency_limit": 1}
PRIVATE = {"api_visibility": "private"}
# What the pictures are is told at every change, with its time.
AS_TOLD = {"js": NOW, "trigger_mode": "multiple"}
AT_ONCE = {"trigger_mode": "always_last", "show_progress": "hidden", "concurrency_limit": 4}


def connect(demo: gr.Blocks, ui, words: Words) -> None:
    """What happens when a visitor does something."""
    running = [*_answer(ui), _compare(ui), _attend(ui)]
    _stop(ui, running)
    _take_pictures(ui)
    _start_over(ui, running)
    _redraw(ui)
    _translate(ui, words)
    _open(demo, ui)


def _seeing(ui):
    """The event that draws the positions."""
    inputs = [ui.pictures, ui.question, ui.turns, *ui.sliders, ui.view, ui.dark, ui.lang]
    outputs = [ui.mrope_plot, ui.circle_plot, ui.logits_plot, ui.mrope_ptd, ui.circle_ptd]
    return {"fn": handlers.see, "inputs": inputs, "outputs": outputs, **AT_ONCE, **PRIVATE}


def _mapping(ui):
    """The event that draws the attention of the layer and head that are chosen."""
    inputs = [ui.attended, ui.shown, ui.layer, ui.head, ui.opacity, ui.dark, ui.lang]
    outputs = [ui.left_map, ui.right_map, ui.left_words, ui.right_words]
    return {"fn": handlers.draw_attention, "inputs": inputs, "outputs": outputs, **AT_ONCE, **PRIVATE}


def _mapping_all(ui):
    """The event that draws the attention of every layer and head."""
    inputs, outputs = [ui.attended, ui.shown, ui.lang], [ui.left_all, ui.right_all]
    return {"fn": handlers.draw_all, "inputs": inputs, "outputs": outputs, **AT_ONCE, **PRIVATE}


def _draw_everything(event, ui):
    return event.then(**_seeing(ui)).then(**_mapping(ui)).then(**_mapping_all(ui))


def _answer(ui):
    """Enter in the question sends it, wherever the visitor is."""
    inputs = [ui.turns, ui.geometry, *ui.sliders, ui.max_new_tokens, ui.temperature, ui.lang]
    outputs = [ui.chat, ui.turns, ui.question]
    by_visitor = [ui.question.submit, ui.ask.click]
    shared = {"outputs": outputs, **MODEL_LINE, **PRIVATE}
    asked = gr.on(by_visitor, handlers.ask, [ui.pictures, ui.question, *inputs], js=SHOW_ANSWER, **shared)
    asked.then(**_seeing(ui))
    return asked, ui.chat.retry(handlers.ask_again, [ui.pictures, *inputs], **shared)


def _comparing(ui):
    return [ui.pictures, ui.question, ui.turns, *ui.sliders, ui.max_new_tokens, ui.lang]


def _compare(ui):
    return ui.compare.click(handlers.compare, _comparing(ui), [ui.cards, ui.compared], **MODEL_LINE, **PRIVATE)


def _attend(ui):
    inputs = [ui.pictures, ui.question, ui.turns, ui.left, ui.right, *ui.sliders, ui.max_new_tokens, ui.lang]
    attended = ui.attend.click(
        handlers.attend,
        inputs,
        [ui.attended, ui.shown],
        show_progress_on=[ui.left_map, ui.right_map],
        **MODEL_LINE,
        **PRIVATE,
    )
    attended.then(**_mapping(ui)).then(**_mapping_all(ui))
    return attended


def _stop(ui, running):
    ui.stop.click(None, cancels=running, **PRIVATE)
    ui.stop.click(handlers.stop_comparison, [ui.compared, ui.lang], [ui.cards, ui.compared], **PRIVATE)


def _take_pictures(ui):
    ui.paste.click(handlers.tell_pasted, [ui.dark, ui.lang], None, js=PASTE, **PRIVATE)
    told = [ui.pictures, ui.lang, ui.told]
    checked = ui.pictures.upload(handlers.check_pictures, told, ui.leaving, **AS_TOLD | {"js": UPLOADED}, **PRIVATE)
    checked.then(None, [ui.pictures, ui.leaving], ui.pictures, js=LEAVE, **PRIVATE)
    for button, example in zip(ui.chosen, EXAMPLES):
        pick = functools.partial(handlers.choose_example, example)
        button.click(pick, None, [ui.pictures, ui.question], **PRIVATE)


def _start_over(ui, running):
    """What belongs to other pictures goes with them."""
    # What runs is cancelled by an event of its own, which the browser takes first: one that came after the server's
    # answer would cancel a question asked in between. When a file's check takes away the example beside it, the
    # gallery changes, and what was asked about that file is answered all the same.
    ui.pictures.change(None, ui.pictures, ui.others, js=OTHERS, **PRIVATE)
    gr.on([ui.others.change, ui.clear.click, ui.chat.clear], None, cancels=running, **PRIVATE)
    outputs = [ui.turns, ui.chat, ui.attended, ui.compared, ui.cards]
    inputs = [ui.pictures, ui.turns, ui.attended, ui.compared, ui.lang, ui.told]
    changed = ui.others.change(handlers.change_pictures, inputs, outputs, **AS_TOLD, **PRIVATE)
    renewed = gr.on([ui.clear.click, ui.chat.clear], handlers.start_over, ui.lang, outputs, **PRIVATE)
    for event in (changed, renewed):
        _draw_everything(event, ui)


def _redraw(ui):
    """Sliders take effect at once."""
    moved = [slider.change for slider in ui.sliders]
    # A trigger that is deferred by "always_last" is repeated as a whole, with all that it does: so no trigger of these
    # events also asks.
    gr.on([*moved, ui.question.blur, ui.view.change, ui.dark.change, ui.see_tab.select], **_seeing(ui))
    gr.on([ui.layer.change, ui.head.change, ui.opacity.change, ui.shown.change, ui.dark.change], **_mapping(ui))
    ui.shown.change(**_mapping_all(ui))
    for maps in (ui.left_all, ui.right_all):
        maps.click(handlers.open_one, None, [ui.layer, ui.head], **PRIVATE)
    again = {"outputs": [ui.cards, ui.compared], "trigger_mode": "always_last", **MODEL_LINE, **PRIVATE}
    gr.on(moved, handlers.compare_again, [ui.compared, *_comparing(ui)], **again)
    ui.reset.click(handlers.reset, None, [ui.geometry, *ui.sliders], **PRIVATE)


def _translate(ui, words):
    def translate(lang, turns, compared, attended):
        return [
            *words.updates(lang),
            handlers.messages_of(turns, lang),
            handlers.show_comparison(compared, lang),
            handlers.picture_choices(attended, lang),
        ]

    inputs = [ui.lang, ui.turns, ui.compared, ui.attended]
    outputs = [*(component for component, _ in words.made), ui.chat, ui.cards, ui.shown]
    switched = ui.lang.change(translate, inputs, outputs, js=SET_LANGUAGE, show_progress="hidden", **PRIVATE)
    _draw_everything(switched, ui)


def _open(demo, ui):
    read = demo.load(None, None, [ui.dark, ui.lang, ui.folded, ui.lost], js=READ_PAGE, **PRIVATE)
    _draw_everything(read, ui).then(handlers.tell_lost, [ui.lost, ui.lang], None, **PRIVATE)
    demo.unload(handlers.close_page)


def build() -> gr.Blocks:
    """The page and the API."""
    words = Words("en")
    gr.set_static_paths([FOLDER])  # examples are shown from where they are
    with gr.Blocks(title="Circle-RoPE", analytics_enabled=False, delete_cache=(3600, 86400)) as demo:
        api.add_endpoints(MODEL_LINE)  # first: the page's own events get the names that are left
        connect(demo, draw(words), words)
    demo.queue(max_size=limits.MAX_QUEUE, default_concurrency_limit=4)
    return demo


def main():
    demo = build()
    demo.launch(
        theme=THEME,
        css=CSS,
        js=SCRIPT,
        max_file_size=limits.MAX_FILE_BYTES,
        show_error=False,
        run_history=False,
        footer_links=["api", "gradio", "settings"],
        ssr_mode=False,
        app_kwargs={"middleware": [Middleware(uploads.Room)]},
        prevent_thread_lock=True,
    )
    uploads.keep_sweeping()
    demo.block_thread()


if __name__ == "__main__":
    main()
