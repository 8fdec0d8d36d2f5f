"""The Space: ask about a picture, compare geometries, see the cone.

python space/app.py
"""

import uploads  # first: it says where gradio keeps its files

# isort: split
import model  # before torch, for ZeroGPU

# isort: split
import functools

import gradio as gr

import api
import handlers
import limits
from examples import EXAMPLES
from style import CSS, PASTE, READ_PAGE, SCRIPT, SCROLL, THEME
from texts import LANGUAGES, name_geometry, say

# Everything that runs the model waits in one line.
MODEL_LINE = {"concurrency_id": "model", "concurrency_limit": 1}
PRIVATE = {"api_visibility": "private"}
AT_ONCE = {"trigger_mode": "always_last", "show_progress": "hidden", "concurrency_limit": 4}


class Words:
    """Makes components whose words follow the language."""

    def __init__(self, lang: str):
        self.lang = lang
        self.made = []

    def add(self, kind, words: dict, **properties):
        """A component; `words` are keys of texts.py, or functions of the language, by the property that they fill."""
        component = kind(**{name: self._read(word, self.lang) for name, word in words.items()}, **properties)
        self.made.append((component, words))
        return component

    def updates(self, lang: str) -> list:
        """What turns every component made here into another language, in order."""
        return [gr.update(**{name: self._read(word, lang) for name, word in words.items()}) for _, words in self.made]

    @staticmethod
    def _read(word, lang):
        return word(lang) if callable(word) else say(word, lang)


def _geometry_choices(lang):
    return [(name_geometry(name, lang), name) for name in model.SCHEDULES]


def _numbered(mean, count):
    """Choices of a layer or a head: the mean, then each by its number."""
    return lambda lang: [(say(mean, lang), -1), *((str(number), number) for number in range(count))]


def _intro(lang):
    line = say("model_line", lang).format(model=model.NAME, trained=name_geometry(model.OWN_SCHEDULE, lang))
    return say("intro", lang) + "\n\n" + line + (" " + say("tiny_line", lang) if model.IS_TINY else "")


def _auto_radius(lang):
    return say("auto_radius", lang).format(radius=model.OWN_RADIUS)


def build() -> gr.Blocks:
    """The page and the API."""
    words = Words("en")
    add = words.add
    own_geometry, own_auto, own_radius, own_alpha, own_dff_rate = handlers.reset()
    with gr.Blocks(title="Circle-RoPE", analytics_enabled=False, delete_cache=(3600, 86400)) as demo:
        api.add_endpoints(MODEL_LINE)  # first: the page's own events get the names that are left
        turns, attended, compared = gr.State([]), gr.State(None), gr.State(False)
        dark = gr.Checkbox(visible=False)
        with gr.Row(elem_id="top"):
            gr.Markdown("# Circle-RoPE", elem_id="title")
            lang = add(
                gr.Radio,
                {"label": "language"},
                choices=[(name, code) for code, name in LANGUAGES.items()],
                value="en",
                elem_id="language",
                container=False,
            )
        add(gr.Markdown, {"value": _intro}, elem_id="intro")
        with gr.Row(elem_id="main"):
            with gr.Column(scale=2, min_width=320):
                pictures = add(
                    gr.Gallery,
                    {"label": "pictures"},
                    elem_id="pictures",
                    interactive=True,
                    sources=["upload"],
                    height=250,
                    fit_columns=False,
                    object_fit="contain",
                    buttons=["fullscreen"],
                )
                paste = add(gr.Button, {"value": "paste"}, size="sm", elem_id="paste")
                question = add(
                    gr.Textbox,
                    {"label": "question", "placeholder": "question_placeholder"},
                    elem_id="question",
                    max_lines=4,
                )
                with gr.Row():
                    ask = add(gr.Button, {"value": "ask"}, elem_id="ask", variant="primary", min_width=70)
                    stop = add(gr.Button, {"value": "stop"}, elem_id="stop", min_width=70)
                    clear = add(gr.Button, {"value": "clear"}, elem_id="clear", min_width=70)
                add(gr.Markdown, {"value": "examples"}, elem_classes="head")
                with gr.Row(elem_id="examples"):
                    chosen = [
                        gr.Button(example.question, icon=example.shown, size="sm", min_width=150) for example in EXAMPLES
                    ]
                with add(gr.Accordion, {"label": "geometry_head"}, elem_id="geometry"):
                    geometry = add(
                        gr.Dropdown,
                        {"label": "geometry", "choices": _geometry_choices},
                        value=own_geometry,
                        elem_id="schedule",
                        filterable=False,
                    )
                    auto = add(gr.Checkbox, {"label": _auto_radius}, value=own_auto, visible=own_auto)
                    top = max(30, own_radius)
                    radius = add(
                        gr.Slider, {"label": "radius"}, minimum=0, maximum=top, value=own_radius, step=0.5, elem_id="radius"
                    )
                    alpha = add(
                        gr.Slider, {"label": "alpha"}, minimum=0, maximum=1, value=own_alpha, step=0.05, elem_id="alpha"
                    )
                    dff_rate = add(
                        gr.Slider,
                        {"label": "dff_rate"},
                        minimum=0,
                        maximum=1,
                        value=own_dff_rate,
                        step=0.05,
                        elem_id="dff_rate",
                    )
                    reset = add(gr.Button, {"value": "reset"}, size="sm", elem_id="reset")
                with add(gr.Accordion, {"label": "settings"}, open=False, elem_id="settings"):
                    max_new_tokens = add(
                        gr.Slider,
                        {"label": "max_new_tokens"},
                        minimum=1,
                        maximum=limits.MAX_NEW_TOKENS,
                        value=min(128, limits.MAX_NEW_TOKENS),
                        step=1,
                        elem_id="max_new_tokens",
                    )
                    temperature = add(
                        gr.Slider,
                        {"label": "temperature"},
                        minimum=0,
                        maximum=limits.MAX_TEMPERATURE,
                        value=0,
                        step=0.1,
                        elem_id="temperature",
                    )
            with gr.Column(scale=3, min_width=320), gr.Tabs(selected="ask", elem_id="tabs") as tabs:
                with add(gr.Tab, {"label": "ask_tab"}, id="ask"):
                    chat = add(
                        gr.Chatbot,
                        {"label": "chat", "placeholder": "chat_empty"},
                        elem_id="chat",
                        height=480,
                        buttons=["copy"],
                        feedback_options=None,
                    )
                    add(gr.Markdown, {"value": "chat_words"}, elem_classes="words")
                with add(gr.Tab, {"label": "compare_tab"}, id="compare"):
                    add(gr.Markdown, {"value": "compare_words"}, elem_classes="words")
                    compare = add(gr.Button, {"value": "compare"}, variant="primary", elem_id="compare")
                    cards = add(gr.HTML, {"value": handlers.empty_cards}, elem_id="cards", min_height=120)
                with add(gr.Tab, {"label": "see_tab"}, id="see") as see_tab:
                    add(gr.Markdown, {"value": lambda lang: "### " + say("positions_head", lang)})
                    add(gr.Markdown, {"value": "positions_words"}, elem_classes="words")
                    with gr.Row():
                        with gr.Column(min_width=300):
                            add(gr.Markdown, {"value": "mrope_plot"}, elem_classes="head")
                            mrope_plot = add(gr.Plot, {"label": "mrope_plot"}, elem_id="mrope_plot", show_label=False)
                            mrope_ptd = gr.Markdown(elem_id="mrope_ptd")
                        with gr.Column(min_width=300):
                            add(gr.Markdown, {"value": "circle_plot"}, elem_classes="head")
                            circle_plot = add(gr.Plot, {"label": "circle_plot"}, elem_id="circle_plot", show_label=False)
                            circle_ptd = gr.Markdown(elem_id="circle_ptd")
                    add(gr.Markdown, {"value": "ptd_words"}, elem_classes="words")
                    add(gr.Markdown, {"value": lambda lang: "### " + say("attention_head", lang)})
                    add(gr.Markdown, {"value": "attention_words"}, elem_classes="words")
                    with gr.Row():
                        left = add(
                            gr.Dropdown,
                            {"label": "left", "choices": _geometry_choices},
                            value="mrope",
                            min_width=220,
                            filterable=False,
                            elem_id="left",
                        )
                        right = add(
                            gr.Dropdown,
                            {"label": "right", "choices": _geometry_choices},
                            value=own_geometry,
                            min_width=220,
                            filterable=False,
                            elem_id="right",
                        )
                    attend = add(gr.Button, {"value": "attend"}, variant="primary", elem_id="attend")
                    with gr.Row():
                        layer = add(
                            gr.Dropdown,
                            {"label": "layer", "choices": _numbered("all_layers", model.LAYERS)},
                            value=-1,
                            min_width=220,
                            filterable=False,
                            elem_id="layer",
                        )
                        head = add(
                            gr.Dropdown,
                            {"label": "head", "choices": _numbered("all_heads", model.HEADS)},
                            value=-1,
                            min_width=220,
                            filterable=False,
                            elem_id="head",
                        )
                        shown = add(
                            gr.Dropdown, {"label": "picture"}, choices=[], visible=False, min_width=220, elem_id="shown"
                        )
                    with gr.Row():
                        with gr.Column(min_width=300):
                            left_map = add(gr.Plot, {"label": "left"}, elem_id="left_map", show_label=False)
                            left_words = gr.Markdown(elem_id="left_words")
                        with gr.Column(min_width=300):
                            right_map = add(gr.Plot, {"label": "right"}, elem_id="right_map", show_label=False)
                            right_words = gr.Markdown(elem_id="right_words")

        sliders = [auto, radius, alpha, dff_rate]
        conversation = [turns, chat, attended, compared]
        asking_inputs = [turns, geometry, *sliders, max_new_tokens, temperature, lang]
        asking_outputs = [chat, turns, question]
        see_event = {
            "fn": handlers.see,
            "inputs": [pictures, question, turns, *sliders, dark, lang],
            "outputs": [mrope_plot, circle_plot, mrope_ptd, circle_ptd],
            **AT_ONCE,
            **PRIVATE,
        }
        maps_event = {
            "fn": handlers.draw_attention,
            "inputs": [attended, shown, layer, head, dark, lang],
            "outputs": [left_map, right_map, left_words, right_words],
            **AT_ONCE,
            **PRIVATE,
        }
        comparing = [pictures, question, turns, *sliders, max_new_tokens, lang]

        # Ask. Enter in the question sends it, wherever the visitor is.
        gr.on([question.submit, ask.click], lambda: gr.Tabs(selected="ask"), None, tabs, js=SCROLL, queue=False, **PRIVATE)
        asked = gr.on(
            [question.submit, ask.click],
            handlers.ask,
            [pictures, question, *asking_inputs],
            asking_outputs,
            **MODEL_LINE,
            **PRIVATE,
        )
        again = chat.retry(handlers.ask_again, [pictures, *asking_inputs], asking_outputs, **MODEL_LINE, **PRIVATE)
        compared_event = compare.click(handlers.compare, comparing, [cards, compared], **MODEL_LINE, **PRIVATE)
        attended_event = attend.click(
            handlers.attend,
            [pictures, question, turns, left, right, *sliders, max_new_tokens, lang],
            [attended, shown],
            show_progress_on=[left_map, right_map],
            **MODEL_LINE,
            **PRIVATE,
        )
        stop.click(None, cancels=[asked, again, compared_event], **PRIVATE)

        # What belongs to other pictures goes with them.
        paste.click(handlers.tell_pasted, [dark, lang], None, js=PASTE, **PRIVATE)
        pictures.upload(handlers.check_pictures, [pictures, lang], pictures, **PRIVATE)
        renewed = gr.on(
            [pictures.change, clear.click, chat.clear], handlers.new_conversation, [pictures, lang], [*conversation, cards], **PRIVATE
        )
        for button, example in zip(chosen, EXAMPLES):
            pick = functools.partial(handlers.choose_example, example)
            button.click(pick, None, [pictures, question], **PRIVATE)

        # See. Sliders take effect at once.
        moved = [auto.change, radius.change, alpha.change, dff_rate.change]
        gr.on([*moved, question.submit, question.blur, dark.change, see_tab.select], **see_event)
        renewed.then(**see_event).then(**maps_event)
        asked.then(**see_event)
        attended_event.then(**maps_event)
        gr.on([layer.change, head.change, shown.change, dark.change], **maps_event)
        gr.on(
            moved, handlers.compare_again, [compared, *comparing], [cards, compared], trigger_mode="always_last",
            **MODEL_LINE, **PRIVATE,
        )
        reset.click(handlers.reset, None, [geometry, *sliders], **PRIVATE)

        # Languages.
        switched = lang.change(
            lambda lang, kept, turns: [*words.updates(lang), handlers.messages_of(turns, lang), handlers.picture_choices(kept, lang)],
            [lang, attended, turns],
            [*(component for component, _ in words.made), chat, shown],
            show_progress="hidden",
            **PRIVATE,
        )
        switched.then(**see_event).then(**maps_event)
        demo.load(None, None, [dark, lang], js=READ_PAGE, **PRIVATE).then(**see_event).then(**maps_event)
        demo.unload(handlers.close_page)
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
        prevent_thread_lock=True,
    )
    uploads.keep_present()
    uploads.keep_sweeping()
    demo.block_thread()


if __name__ == "__main__":
    main()
