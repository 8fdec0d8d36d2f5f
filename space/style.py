"""How the Space looks and what it does in the browser by itself: gradio's own theme, and little beside it."""

import json

import gradio as gr

from examples import FOLDER
from texts import GRADIO_WORDS

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
.gradio-container { width: 100%; max-width: 1360px !important; margin: 0 auto !important; }
:is(a, button, input, textarea, [tabindex]):focus-visible, label:has([type=radio]:focus-visible) {
    outline: 3px solid var(--primary-500) !important; outline-offset: 2px; }
#top { align-items: center; flex-wrap: nowrap; }
#title { flex: 1 1 auto; }
#title h1 { margin: 0; white-space: nowrap; font-size: clamp(18px, 4.8vw, 30px); }
#language { flex: 0 0 auto; width: auto; }
#language .wrap { flex-wrap: nowrap; gap: 6px; }
#ask, #stop, #clear, #paste { padding-inline: 6px; white-space: nowrap; font-size: 16px; }
@media (max-width: 640px) { #language label { padding: 6px 8px; font-size: 14px; } }
#intro { max-width: 80ch; }
#tabs button[role=tab].selected { color: var(--primary-700); }
.dark #tabs button[role=tab].selected { color: var(--primary-300); }
#pictures .grid-container { padding-top: 26px; } /* below the label and the buttons */
#pictures .thumbnail-item { height: 180px; width: 180px; }
.js-plotly-plot .modebar { display: none; } /* on touch screens it would always be there, over the legend */
.words { max-width: 80ch; }
.head { font-weight: 600; }
#examples { gap: 6px; display: grid; grid-template-columns: repeat(5, 1fr); }
#examples button { flex-direction: column; padding: 4px; font-weight: 400; font-size: 12px; line-height: 1.2;
    min-width: 0 !important; }
#examples img { width: 40px; height: 40px; border-radius: 6px; margin: 0; }
@media (max-width: 640px) {
    #intro { order: 2; } /* what one does is first, what it is about is below */
    #main { order: 1; }
    #pictures { height: 170px !important; }
    #pictures .thumbnail-item { height: 124px; width: 124px; }
    #chat { height: 210px !important; }
    #buttons { gap: 8px; flex-wrap: nowrap; }
    #buttons button { font-size: 14px; min-width: 0 !important; padding-inline: 2px; }
    #examples button { font-size: 0; }
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
.asked { font-style: italic; margin: 0 0 10px; overflow-wrap: anywhere; }
.pending { color: var(--body-text-color-subdued); }
"""

# Pictures can be pasted anywhere on the page, and by a button where there is no keyboard. The second click of a double
# click does nothing, arrow keys go from tab to tab, plots are figures with the names that stand above them, and what
# gradio says by itself is said in the page's language.
SCRIPT = """() => {
    window.begin = () => history.replaceState({ ...history.state, begun: true }, "");
    const buttons = "#ask, #stop, #clear, #compare, #attend, #reset, #examples button";
    document.addEventListener("click", event => {
        if (event.detail > 1 && event.target.closest(buttons)) event.stopImmediatePropagation();
    }, true);
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
    const named = { mrope_plot: "mrope_head mrope_ptd", circle_plot: "circle_head circle_ptd",
        logits_plot: "logits_head", left_map: "left_words", right_map: "right_words" };
    const translations = TRANSLATIONS;
    const translate = () => {
        for (const said of document.querySelectorAll(".toast-title, .toast-message-text")) {
            const text = said.firstChild, words = translations[text?.nodeValue?.trim()];
            if (words) text.nodeValue = words[document.documentElement.lang] + " ";
        }
    };
    const name = () => {
        for (const [id, names] of Object.entries(named)) {
            const plot = document.querySelector(`#${id} .js-plotly-plot`);
            if (plot && plot.getAttribute("role") != "figure") {
                plot.setAttribute("role", "figure");
                plot.setAttribute("aria-labelledby", names);
            }
        }
    };
    new MutationObserver(() => [name(), translate()]).observe(document.body, { childList: true, subtree: true });
    const isMedia = file => /^(image|video)\\//.test(file.type);
    const add = files => {
        const input = document.querySelector("#pictures input[type=file]");
        const list = new DataTransfer();
        files.forEach(file => list.items.add(file));
        input.files = list.files;
        input.dispatchEvent(new Event("change", { bubbles: true }));
    };
    document.addEventListener("paste", event => {
        const files = [...event.clipboardData.files].filter(isMedia);
        if (files.length) {
            event.preventDefault();
            add(files);
        }
    });
    window.pastePicture = async () => {
        try {
            const files = [];
            for (const item of await navigator.clipboard.read()) {
                const type = item.types.find(type => type.startsWith("image/"));
                if (type) files.push(new File([await item.getType(type)], "pasted." + type.slice(6), { type }));
            }
            if (files.length) add(files);
            return files.length > 0;
        } catch {
            return false;
        }
    };
}""".replace("TRANSLATIONS", json.dumps(GRADIO_WORDS))
NOW = "(...inputs) => [...inputs.slice(0, -1), Date.now()]"  # the last input is the time
# A page that is loaded again, as after a restart of the server, knows whether there was something to lose.
UPLOADED = "(...inputs) => { begin(); return [...inputs.slice(0, -1), Date.now()]; }"
PASTE = "async (_, lang) => [await window.pastePicture(), lang]"
# Files leave whatever the gallery shows by now: more of them may have come.
LEAVE = """(shown, leaving) => {
    const left = (shown ?? []).filter(file => !leaving.includes((file.image ?? file.video).path));
    return [left.length == shown?.length ? { __type__: "update" } : left.length ? left : null];
}"""
# A new number when other files are asked about than before, as `handlers.paths_of` says which those are.
OTHERS = """shown => {
    const paths = (shown ?? []).map(file => (file.image ?? file.video).path);
    const own = paths.filter(path => !path.startsWith(EXAMPLES));
    const before = window.askedAbout ?? { changes: 0 };
    const files = JSON.stringify(own.length ? own : paths);
    window.askedAbout = { files, changes: before.changes + (files != before.files) };
    return [window.askedAbout.changes];
}""".replace("EXAMPLES", json.dumps(str(FOLDER)))
# On a narrow screen the answer may be below what the visitor sees; the question stays in sight.
SHOW_ANSWER = """(...inputs) => {
    begin();
    if (innerWidth < 768) document.querySelector("#chat").scrollIntoView({ behavior: "smooth", block: "nearest" });
    return inputs;
}"""
# On a wide screen there is room for the sliders.
READ_PAGE = """() => {
    const lang = document.documentElement.lang = navigator.language.startsWith("zh") ? "zh" : "en";
    const lost = history.state?.begun == true;
    history.replaceState(null, "");
    const folded = innerWidth < 768 ? { __type__: "update" } : { __type__: "update", open: true };
    return [document.body.classList.contains("dark"), lang, folded, lost];
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
