"""What the page is made of: its components, in the order of the page, with words that follow the language."""

from types import SimpleNamespace

import gradio as gr

import handlers
import limits
import model
import plots
from examples import EXAMPLES
from texts import LANGUAGES, name_geometry, say


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
    tiny = " " + say("tiny_line", lang).format(knows=say("tiny_knows", lang)) if model.IS_TINY else ""
    return say("intro", lang) + "\n\n" + line + tiny


def _view_choices(lang):
    return [(say(f"view_{name}", lang), name) for name in plots.VIEWS]


def _auto_radius(lang):
    return say("auto_radius", lang).format(radius=model.OWN_RADIUS)


def _slider(words, name, low, high, value, step):
    return words.add(gr.Slider, {"label": name}, minimum=low, maximum=high, value=value, step=step, elem_id=name)


def _dropdown(words, label, choices, value, elem_id):
    # Wide enough for its longest choice on a phone, where one stands under the other.
    properties = {"value": value, "elem_id": elem_id, "filterable": False, "min_width": 220}
    return words.add(gr.Dropdown, {"label": label, "choices": choices}, **properties)


def draw(words: Words) -> SimpleNamespace:
    """Make every component, inside the `gr.Blocks` that is being built, and return them by name."""
    ui, add = SimpleNamespace(), words.add
    own_geometry, own_auto, own_radius, own_alpha, own_dff_rate = handlers.reset()
    ui.turns, ui.attended, ui.compared = gr.State([]), gr.State(None), gr.State(None)
    ui.dark, ui.told = gr.Checkbox(visible=False), gr.Number(0, visible=False)
    with gr.Row(elem_id="top"):
        gr.Markdown("# Circle-RoPE", elem_id="title")
        ui.lang = add(
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
            _draw_input(words, ui)
            ui.chat = add(
                gr.Chatbot,
                {"label": "chat", "placeholder": "chat_empty"},
                elem_id="chat",
                height=300,
                buttons=["copy"],
                feedback_options=None,
                latex_delimiters=[],
            )
            add(gr.Markdown, {"value": "chat_words"}, elem_classes="words")
        with gr.Column(scale=3, min_width=320):
            with gr.Tabs(elem_id="tabs"):
                with add(gr.Tab, {"label": "see_tab"}, id="see") as ui.see_tab:
                    _draw_positions(words, ui)
                with add(gr.Tab, {"label": "attention_tab"}, id="attention"):
                    _draw_attention(words, ui, own_geometry)
                with add(gr.Tab, {"label": "compare_tab"}, id="compare"):
                    add(gr.Markdown, {"value": _head("compare_head")})
                    add(gr.Markdown, {"value": "compare_words"}, elem_classes="words")
                    ui.compare = add(gr.Button, {"value": "compare"}, variant="primary", elem_id="compare")
                    ui.cards = gr.HTML(handlers.show_comparison(None, words.lang), elem_id="cards", min_height=120)
            with add(gr.Accordion, {"label": "geometry_head"}, open=False, elem_id="geometry") as ui.sliders:
                ui.geometry = _dropdown(words, "geometry", _geometry_choices, own_geometry, "schedule")
                ui.auto = add(gr.Checkbox, {"label": _auto_radius}, value=own_auto, visible=own_auto)
                top = max(30, own_radius)
                ui.radius = _slider(words, "radius", 0, top, own_radius, 0.5)
                ui.alpha = _slider(words, "alpha", 0, 1, own_alpha, 0.05)
                ui.dff_rate = _slider(words, "dff_rate", 0, 1, own_dff_rate, 0.05)
                ui.reset = add(gr.Button, {"value": "reset"}, size="sm", elem_id="reset")
            with add(gr.Accordion, {"label": "settings"}, open=False, elem_id="settings"):
                ui.max_new_tokens = _slider(words, "max_new_tokens", 1, limits.MAX_NEW_TOKENS, 128, 1)
                ui.temperature = _slider(words, "temperature", 0, limits.MAX_TEMPERATURE, 0, 0.1)
    return ui


def _head(key):
    return lambda lang: "## " + say(key, lang)


def _draw_input(words, ui):
    add, first = words.add, EXAMPLES[0]
    ui.pictures = add(
        gr.Gallery,
        {"label": "pictures"},
        value=first.files,
        elem_id="pictures",
        interactive=True,
        sources=["upload"],
        height=236,
        fit_columns=False,
        object_fit="contain",
        buttons=["fullscreen"],
    )
    with gr.Row(elem_id="examples"):
        ui.chosen = [gr.Button(example.question, icon=example.shown, size="sm", min_width=60) for example in EXAMPLES]
    ui.question = add(
        gr.Textbox,
        {"label": "question", "placeholder": "question_placeholder"},
        value=first.question,
        elem_id="question",
        max_lines=4,
    )
    with gr.Row(elem_id="buttons"):
        ui.ask = add(gr.Button, {"value": "ask"}, elem_id="ask", variant="primary", min_width=70)
        ui.stop = add(gr.Button, {"value": "stop"}, elem_id="stop", min_width=70)
        ui.clear = add(gr.Button, {"value": "clear"}, elem_id="clear", min_width=70)
        ui.paste = add(gr.Button, {"value": "paste"}, elem_id="paste", min_width=70)


def _draw_positions(words, ui):
    add = words.add
    add(gr.Markdown, {"value": _head("positions_head")})
    ui.view = add(
        gr.Radio, {"label": "view", "choices": _view_choices}, value="picture", elem_id="view", container=False
    )
    with gr.Row():
        for name in ("mrope", "circle"):
            with gr.Column(min_width=300):
                add(gr.Markdown, {"value": f"{name}_plot"}, elem_classes="head", elem_id=f"{name}_head")
                plot = add(gr.Plot, {"label": f"{name}_plot"}, elem_id=f"{name}_plot", show_label=False)
                distance = gr.Markdown(elem_id=f"{name}_ptd")
            setattr(ui, f"{name}_plot", plot)
            setattr(ui, f"{name}_ptd", distance)
    add(gr.Markdown, {"value": "positions_words"}, elem_classes="words")
    add(gr.Markdown, {"value": "ptd_words"}, elem_classes="words")


def _draw_attention(words, ui, own_geometry):
    add = words.add
    add(gr.Markdown, {"value": _head("attention_head")})
    add(gr.Markdown, {"value": "attention_words"}, elem_classes="words")
    with gr.Row():
        ui.left = _dropdown(words, "left", _geometry_choices, "mrope", "left")
        ui.right = _dropdown(words, "right", _geometry_choices, own_geometry, "right")
    ui.attend = add(gr.Button, {"value": "attend"}, variant="primary", elem_id="attend")
    with gr.Row():
        for name in ("left", "right"):
            with gr.Column(min_width=300):
                drawn = add(gr.Plot, {"label": name}, elem_id=f"{name}_map", show_label=False)
                caption = gr.Markdown(elem_id=f"{name}_words")
            setattr(ui, f"{name}_map", drawn)
            setattr(ui, f"{name}_words", caption)
    with gr.Row():
        ui.layer = _dropdown(words, "layer", _numbered("all_layers", model.LAYERS), -1, "layer")
        ui.head = _dropdown(words, "head", _numbered("all_heads", model.HEADS), -1, "head")
        ui.shown = add(gr.Dropdown, {"label": "picture"}, choices=[], visible=False, min_width=220, elem_id="shown")
    ui.opacity = _slider(words, "opacity", 0, 1, plots.OPACITY, 0.05)
