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
from style import CSS, NOW, PASTE, READ_PAGE, SCRIPT, SHOW_ANSWER, THEME

# Everything that runs the model waits in one line.
MODEL_LINE = {"concurrency_id": "model", "concurrency_limit": 1}
PRIVATE = {"api_visibility": "private"}
# What the pictures are is told at every change, with its time.
AS_TOLD = {"js": NOW, "trigger_mode": "multiple"}
AT_ONCE = {"trigger_mode": "always_last", "show_progress": "hidden", "concurrency_limit": 4}


def connect(demo: gr.Blocks, ui, words: Words) -> None:
    """What happens when a visitor does something."""
    sliders = [ui.auto, ui.radius, ui.alpha, ui.dff_rate]
    asking_inputs = [ui.turns, ui.geometry, *sliders, ui.max_new_tokens, ui.temperature, ui.lang]
    asking_outputs = [ui.chat, ui.turns, ui.question]
    see_event = {
        "fn": handlers.see,
        "inputs": [ui.pictures, ui.question, ui.turns, *sliders, ui.view, ui.dark, ui.lang],
        "outputs": [ui.mrope_plot, ui.circle_plot, ui.mrope_ptd, ui.circle_ptd],
        **AT_ONCE,
        **PRIVATE,
    }
    maps_event = {
        "fn": handlers.draw_attention,
        "inputs": [ui.attended, ui.shown, ui.layer, ui.head, ui.opacity, ui.dark, ui.lang],
        "outputs": [ui.left_map, ui.right_map, ui.left_words, ui.right_words],
        **AT_ONCE,
        **PRIVATE,
    }
    comparing = [ui.pictures, ui.question, ui.turns, *sliders, ui.max_new_tokens, ui.lang]

    # Ask. Enter in the question sends it, wherever the visitor is.
    asked = gr.on(
        [ui.question.submit, ui.ask.click],
        handlers.ask,
        [ui.pictures, ui.question, *asking_inputs],
        asking_outputs,
        js=SHOW_ANSWER,
        **MODEL_LINE,
        **PRIVATE,
    )
    again = ui.chat.retry(handlers.ask_again, [ui.pictures, *asking_inputs], asking_outputs, **MODEL_LINE, **PRIVATE)
    compared_event = ui.compare.click(handlers.compare, comparing, [ui.cards, ui.compared], **MODEL_LINE, **PRIVATE)
    attended_event = ui.attend.click(
        handlers.attend,
        [ui.pictures, ui.question, ui.turns, ui.left, ui.right, *sliders, ui.max_new_tokens, ui.lang],
        [ui.attended, ui.shown],
        show_progress_on=[ui.left_map, ui.right_map],
        **MODEL_LINE,
        **PRIVATE,
    )
    running = [asked, again, compared_event, attended_event]
    ui.stop.click(None, cancels=running, **PRIVATE)
    ui.stop.click(handlers.stop_comparison, [ui.compared, ui.lang], [ui.cards, ui.compared], **PRIVATE)

    # What belongs to other pictures goes with them. What runs is cancelled by an event of its own, which the browser
    # takes first: one that came after the server's answer would cancel a question asked in between.
    ui.paste.click(handlers.tell_pasted, [ui.dark, ui.lang], None, js=PASTE, **PRIVATE)
    ui.pictures.upload(handlers.check_pictures, [ui.pictures, ui.lang, ui.told], ui.pictures, **AS_TOLD, **PRIVATE)
    gr.on([ui.pictures.change, ui.clear.click, ui.chat.clear], None, cancels=running, **PRIVATE)
    conversation = [ui.turns, ui.chat, ui.attended, ui.compared, ui.cards]
    changed = ui.pictures.change(
        handlers.change_pictures, [ui.pictures, ui.turns, ui.lang, ui.told], conversation, **AS_TOLD, **PRIVATE
    )
    renewed = gr.on([ui.clear.click, ui.chat.clear], handlers.start_over, ui.lang, conversation, **PRIVATE)
    for button, example in zip(ui.chosen, EXAMPLES):
        pick = functools.partial(handlers.choose_example, example)
        button.click(pick, None, [ui.pictures, ui.question], **PRIVATE)

    # See. Sliders take effect at once.
    moved = [ui.auto.change, ui.radius.change, ui.alpha.change, ui.dff_rate.change]
    # A trigger that is deferred by "always_last" is repeated as a whole, with all that it does: so no trigger of these
    # events also asks.
    gr.on([*moved, ui.question.blur, ui.view.change, ui.dark.change, ui.see_tab.select], **see_event)
    for event in (changed, renewed):
        event.then(**see_event).then(**maps_event)
    asked.then(**see_event)
    attended_event.then(**maps_event)
    gr.on([ui.layer.change, ui.head.change, ui.opacity.change, ui.shown.change, ui.dark.change], **maps_event)
    gr.on(
        moved,
        handlers.compare_again,
        [ui.compared, *comparing],
        [ui.cards, ui.compared],
        trigger_mode="always_last",
        **MODEL_LINE,
        **PRIVATE,
    )
    ui.reset.click(handlers.reset, None, [ui.geometry, *sliders], **PRIVATE)

    # Languages.
    def translate(lang, turns, compared, attended):
        return [
            *words.updates(lang),
            handlers.messages_of(turns, lang),
            handlers.show_comparison(compared, lang),
            handlers.picture_choices(attended, lang),
        ]

    switched = ui.lang.change(
        translate,
        [ui.lang, ui.turns, ui.compared, ui.attended],
        [*(component for component, _ in words.made), ui.chat, ui.cards, ui.shown],
        show_progress="hidden",
        **PRIVATE,
    )
    switched.then(**see_event).then(**maps_event)
    demo.load(None, None, [ui.dark, ui.lang, ui.sliders], js=READ_PAGE, **PRIVATE).then(**see_event).then(**maps_event)
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
