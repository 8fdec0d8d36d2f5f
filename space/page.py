"""What the page is made of: its components, in the order of the page, with words that follow the language."""

from types import SimpleNamespace

import gradio as gr

import handlers
import limits
import model
import plots
from samples import EXAMPLES, QUESTIONS
from style import OPEN_ONE
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


def _about(lang):
    line = say("model_line", lang).format(model=model.NAME, trained=name_geometry(model.OWN_SCHEDULE, lang))
    return line + (" " + say("tiny_line", lang) if model.IS_TINY else "")


def _place_choices(lang):
    return [(say(f"{name}_plot", lang), name) for name in ("mrope", "circle")]


def _view_choices(lang):
    return [(say(f"view_{name}", lang), name) for name in plots.VIEWS]


def _auto_radius(lang):
    return say("auto_radius", lang).format(radius=model.OWN_RADIUS)


def _text(words, key, kind="words", elem_id=None):
    return words.add(gr.Markdown, {"value": key}, elem_classes=kind, elem_id=elem_id)


def _head(words, key, elem_id=None):
    return words.add(gr.Markdown, {"value": lambda lang: "## " + say(key, lang)}, elem_id=elem_id)


def _button(words, name, **properties):
    return words.add(gr.Button, {"value": name}, elem_id=name, **properties)


def _plot(words, name, label=None):
    return words.add(gr.Plot, {"label": label or name}, elem_id=name, show_label=False)


def _slider(words, name, low, high, value, step):
    return words.add(gr.Slider, {"label": name}, minimum=low, maximum=high, value=value, step=step, elem_id=name)


def _dropdown(words, label, choices, value, elem_id):
    properties = {"value": value, "elem_id": elem_id, "filterable": False, "min_width": 160}
    return words.add(gr.Dropdown, {"label": label, "choices": choices}, **properties)


def draw(words: Words) -> SimpleNamespace:
    """Make every component, inside the `gr.Blocks` that is being built, and return them by name."""
    ui = SimpleNamespace()
    ui.turns, ui.attended, ui.compared = gr.State([]), gr.State(None), gr.State(None)
    ui.dark = gr.Checkbox(visible=False)
    with gr.Row(elem_id="top"):
        gr.Markdown("# Circle-RoPE", elem_id="title")
        choices = [(name, code) for code, name in LANGUAGES.items()]
        properties = {"choices": choices, "value": "en", "elem_id": "language", "container": False}
        ui.lang = words.add(gr.Radio, {"label": "language"}, **properties)
    words.add(gr.Markdown, {"value": "intro"}, elem_id="intro")
    with gr.Row(elem_id="main"):
        with gr.Column(scale=4, min_width=300, elem_id="talk"):
            _draw_talk(words, ui)
        with gr.Column(scale=7, min_width=300, elem_id="show"):
            _draw_tabs(words, ui)
        with gr.Column(scale=3, min_width=220, elem_id="geometry"):
            _draw_geometry(words, ui)
    return ui


def _draw_talk(words, ui):
    ui.pictures = words.add(
        gr.Gallery,
        {"label": "pictures"},
        value=EXAMPLES[0].files,
        elem_id="pictures",
        interactive=True,
        sources=["upload", "clipboard"],
        file_types=["image", "video", *limits.SUFFIXES],
        height=170,
        fit_columns=False,
        object_fit="contain",
        buttons=["fullscreen"],
    )
    with gr.Row(elem_id="examples"):
        ui.chosen = [gr.Button(example.question, icon=example.shown, size="sm", min_width=60) for example in EXAMPLES]
    words_of_box = {"label": "question", "placeholder": "question_placeholder"}
    ui.question = words.add(gr.Textbox, words_of_box, value=EXAMPLES[0].question, elem_id="question", max_lines=4)
    with gr.Row(elem_id="buttons"):
        ui.ask = _button(words, "ask", variant="primary", min_width=70)
        ui.stop = _button(words, "stop", min_width=70)
        ui.clear = _button(words, "clear", min_width=70)
    ui.chat = words.add(
        gr.Chatbot,
        {"label": "chat", "placeholder": "chat_empty"},
        examples=[{"text": question} for question in QUESTIONS],
        elem_id="chat",
        height=300,
        buttons=["copy"],
        feedback_options=None,
        latex_delimiters=[],
    )
    _text(words, "chat_words")
    with words.add(gr.Accordion, {"label": "settings"}, open=False, elem_id="settings"):
        ui.max_new_tokens = _slider(words, "max_new_tokens", 1, limits.MAX_NEW_TOKENS, 128, 1)
        ui.temperature = _slider(words, "temperature", 0, limits.MAX_TEMPERATURE, 0, 0.1)
    words.add(gr.Markdown, {"value": _about}, elem_classes="words", elem_id="about")


def _draw_tabs(words, ui):
    with gr.Tabs(elem_id="tabs"):
        with words.add(gr.Tab, {"label": "see_tab"}, id="see") as ui.see_tab:
            _draw_positions(words, ui)
        with words.add(gr.Tab, {"label": "attention_tab"}, id="attention"):
            _draw_attention(words, ui)
        with words.add(gr.Tab, {"label": "compare_tab"}, id="compare"):
            _head(words, "compare_head")
            ui.compare = _button(words, "compare", variant="primary")
            ui.verdict = gr.Markdown(elem_id="verdict")
            ui.cards = gr.HTML(handlers.show_comparison(None, words.lang), elem_id="cards", min_height=120)
            _text(words, "compare_words")


def _draw_positions(words, ui):
    with gr.Row(elem_id="shows"):
        for name, choices, value in (("placed", _place_choices, "circle"), ("view", _view_choices, "picture")):
            properties = {"value": value, "elem_id": name, "container": False, "min_width": 200}
            setattr(ui, name, words.add(gr.Radio, {"label": name, "choices": choices}, **properties))
    ui.cone = _plot(words, "cone_plot")
    _head(words, "strip_head", "strip_head")
    ui.strip = _plot(words, "strip_plot")
    _text(words, "positions_words")
    _head(words, "logits_head", "logits_head")
    ui.logits = _plot(words, "logits_plot")
    _text(words, "logits_words")


def _draw_attention(words, ui):
    _head(words, "attention_head")
    with gr.Row():
        ui.left = _dropdown(words, "left", _geometry_choices, "mrope", "left")
        ui.right = _dropdown(words, "right", _geometry_choices, model.OWN_SCHEDULE, "right")
    ui.attend = _button(words, "attend", variant="primary")
    with gr.Row():
        for name in ("left", "right"):
            with gr.Column(min_width=260):
                setattr(ui, f"{name}_map", _plot(words, f"{name}_map", name))
                setattr(ui, f"{name}_words", gr.Markdown(elem_id=f"{name}_words"))
                setattr(ui, f"{name}_all", gr.HTML(elem_id=f"{name}_all", js_on_load=OPEN_ONE))
    with gr.Row():
        ui.step = _dropdown(words, "step", lambda lang: handlers.step_choices(None, lang), 0, "step")
        ui.layer = _dropdown(words, "layer", _numbered("all_layers", model.LAYERS), -1, "layer")
        ui.head = _dropdown(words, "head", _numbered("all_heads", model.HEADS), -1, "head")
        shown = {"choices": [], "visible": False, "min_width": 160}
        ui.shown = words.add(gr.Dropdown, {"label": "picture"}, elem_id="shown", **shown)
    ui.opacity = _slider(words, "opacity", 0, 1, plots.OPACITY, 0.05)
    _text(words, "attention_words")


def _draw_geometry(words, ui):
    geometry, is_auto, radius, alpha, dff_rate = handlers.own_settings()
    ui.auto = words.add(gr.Checkbox, {"label": _auto_radius}, value=is_auto, visible=is_auto)
    ui.radius = _slider(words, "radius", 0, max(30, radius), radius, 0.5)
    ui.alpha = _slider(words, "alpha", 0, 1, alpha, 0.05)
    ui.dff_rate = _slider(words, "dff_rate", 0, 1, dff_rate, 0.05)
    ui.sliders = [ui.auto, ui.radius, ui.alpha, ui.dff_rate]
    ui.numbers = gr.HTML(elem_id="numbers")
    ui.geometry = _dropdown(words, "geometry", _geometry_choices, geometry, "schedule")
    ui.reset = _button(words, "reset", size="sm")
    _text(words, "geometry_words")
