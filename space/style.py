"""How the Space looks and what it does in the browser by itself: gradio's own theme, and little beside it."""

import gradio as gr

SANS = [
    "system-ui",
    "-apple-system",
    "Segoe UI",
    "Roboto",
    "Noto Sans",
    "Noto Sans CJK SC",
    "PingFang SC",
    "sans-serif",
]
MONO = ["ui-monospace", "Menlo", "Consolas", "monospace"]

# Fonts by name only: nothing is fetched from elsewhere.
THEME = gr.themes.Default(
    primary_hue="indigo", secondary_hue="indigo", neutral_hue="zinc", font=SANS, font_mono=MONO, radius_size="lg"
).set(
    # One step darker than gradio's, which is below the contrast that small words need.
    button_primary_background_fill="*primary_600",
    button_primary_background_fill_hover="*primary_700",
    link_text_color="*primary_700",
    link_text_color_dark="*primary_300",
    body_text_color_subdued="*neutral_600",
    body_text_color_subdued_dark="*neutral_400",
    input_placeholder_color="*neutral_500",
    input_placeholder_color_dark="*neutral_400",
)

# On a narrow screen the answer may be below what the visitor sees; the question stays in sight.
SHOW_ANSWER = """(...inputs) => {
    if (innerWidth < 768) document.querySelector("#chat").scrollIntoView({ behavior: "smooth", block: "nearest" });
    return inputs;
}"""
READ_PAGE = """() => {
    const lang = document.documentElement.lang = navigator.language.startsWith("zh") ? "zh" : "en";
    return [document.body.classList.contains("dark"), lang];
}"""
SET_LANGUAGE = "(...inputs) => { document.documentElement.lang = inputs[0]; return inputs; }"
# A click on the small map of one layer and head; the large one comes into sight.
OPEN_ONE = """element.addEventListener("click", event => {
    const map = event.target.closest("button");
    if (!map) return;
    trigger("click", { layer: +map.dataset.layer, head: +map.dataset.head });
    const large = element.closest(".column").querySelector(".js-plotly-plot");
    large.scrollIntoView({ behavior: "smooth", block: "nearest" });
});"""
