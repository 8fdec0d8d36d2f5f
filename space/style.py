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

CSS = """
/* Not as wide as its content, which would move when a picture comes. */
.gradio-container { width: 100%; max-width: 1600px !important; margin: 0 auto !important; }
.gradio-container > main { padding-top: 8px !important; }
:is(a, button, input, textarea, [tabindex]):focus-visible, label:has([type=radio]:focus-visible) {
    outline: 3px solid var(--primary-500) !important; outline-offset: 2px; }
#top { align-items: center; flex-wrap: nowrap; }
#title { flex: 1 1 auto; }
#title h1 { margin: 0; white-space: nowrap; font-size: clamp(18px, 4.8vw, 26px); }
#language { flex: 0 0 auto; width: auto; }
#language .wrap { flex-wrap: nowrap; gap: 6px; }
#ask, #stop, #clear { padding-inline: 6px; white-space: nowrap; font-size: 16px; }
#intro p { margin: 0 0 2px; }
#tabs button[role=tab].selected { color: var(--primary-700); }
.dark #tabs button[role=tab].selected { color: var(--primary-300); }
#pictures .grid-container { padding-top: 26px; } /* below the label and the buttons */
#pictures .thumbnail-item { height: 120px; width: 120px; }
.js-plotly-plot .modebar { display: none; } /* on touch screens it would always be there, over the legend */
.words { max-width: 80ch; }
#geometry { gap: 8px; }
#geometry .block { padding: 6px 10px; }
#numbers table { width: 100%; margin: 0 !important; border: 0 !important; font-size: 13px; }
#numbers :is(th, td, tr) { border: 0 !important; padding: 2px 4px !important; font-weight: 400 !important; }
#numbers td { font-weight: 600 !important; text-align: right; font-variant-numeric: tabular-nums; }
#shows label { padding: 3px 8px; font-size: 13px; }
#strip_head h2 { margin: 0 !important; font-size: 15px; }
#examples { gap: 6px; display: grid; grid-template-columns: repeat(auto-fill, minmax(130px, 1fr)); }
#examples button { min-width: 0 !important; padding: 4px; font-weight: 400; font-size: 12px; line-height: 1.2;
    text-align: left; }
#examples img { width: 32px; height: 32px; border-radius: 6px; margin: 0; }
@media (max-width: 640px) {
    #language label { padding: 6px 8px; font-size: 14px; }
    #intro p + p { display: none; }
    #show { order: -1; } /* the picture of what it is about comes first */
    #chat { height: 210px !important; }
    #buttons { gap: 8px; }
    #buttons button { font-size: 14px; min-width: 0 !important; padding-inline: 2px; }
}
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(210px, 1fr)); gap: 12px; }
.card { border: 1px solid var(--border-color-primary); border-radius: 10px; padding: 12px 14px;
    background: var(--background-fill-primary); display: flex; flex-direction: column; gap: 6px; }
.card header, .card footer { display: flex; justify-content: space-between; align-items: baseline; gap: 4px 8px;
    flex-wrap: wrap; }
.card h3 { margin: 0; font-size: 15px; }
.card p { margin: 0; }
.card .answer { font-size: 18px; flex: 1; overflow-wrap: anywhere; padding: 4px 0; }
.card .schedule, .card footer, .empty { color: var(--body-text-color-subdued); font-size: 13px; }
.badge { font-size: 12px; padding: 1px 8px; border-radius: 999px; background: var(--primary-600); color: white; }
.layers { display: flex; gap: 2px; height: 8px; }
.layers i { flex: 1; border-radius: 2px; background: var(--neutral-400); }
.layers i.circle { background: var(--primary-500); }
.maps { display: grid; gap: 3px; align-items: center; overflow-x: auto; font-size: 12px; margin-top: 8px; }
.maps button { padding: 0; border: 0; line-height: 0; cursor: pointer; }
.maps img { width: 100%; min-width: 24px; image-rendering: pixelated; }
.maps span { text-align: center; color: var(--body-text-color-subdued); }
.mark { font-size: 12px; padding: 1px 8px; border-radius: 999px; border: 1px solid currentColor; }
.mark.right { color: #166534; } .dark .mark.right { color: #86efac; }
.mark.wrong { color: #991b1b; } .dark .mark.wrong { color: #fca5a5; }
.asked { font-style: italic; margin: 0 0 10px; overflow-wrap: anywhere; }
.pending { color: var(--body-text-color-subdued); }
"""

# Pictures can be pasted anywhere on the page, arrow keys go from tab to tab, plots are figures with the names that
# stand beside them, and results are announced.
SCRIPT = """() => {
    document.addEventListener("keydown", event => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        const tab = event.target.closest?.("#tabs [role=tab]");
        if (!step || !tab) return;
        const tabs = [...tab.parentElement.querySelectorAll("[role=tab]")];
        const next = tabs[(tabs.indexOf(tab) + step + tabs.length) % tabs.length];
        next.click();
        next.focus();
        event.preventDefault();
    });
    const named = { cone_plot: "title numbers", strip_plot: "strip_head", logits_plot: "logits_head",
        left_map: "left_words", right_map: "right_words" };
    const mark = () => {
        for (const [id, names] of Object.entries(named)) {
            const plot = document.querySelector(`#${id} .js-plotly-plot`);
            plot?.setAttribute("role", "figure");
            plot?.setAttribute("aria-labelledby", names);
        }
        for (const said of document.querySelectorAll("#verdict, #left_words, #right_words"))
            said.setAttribute("aria-live", "polite");
    };
    new MutationObserver(mark).observe(document.body, { childList: true, subtree: true });
    document.addEventListener("paste", event => {
        const files = [...event.clipboardData.files].filter(file => /^(image|video)\\//.test(file.type));
        if (!files.length) return;
        event.preventDefault();
        const input = document.querySelector("#pictures input[type=file]");
        const list = new DataTransfer();
        files.forEach(file => list.items.add(file));
        input.files = list.files;
        input.dispatchEvent(new Event("change", { bubbles: true }));
    });
}"""
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
