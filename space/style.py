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
    body_text_color_subdued="*neutral_600",
    body_text_color_subdued_dark="*neutral_400",
    input_placeholder_color="*neutral_500",
    input_placeholder_color_dark="*neutral_400",
)

CSS = """
.gradio-container { max-width: 1360px !important; margin: 0 auto !important; }
#top { align-items: center; flex-wrap: nowrap; }
#title { flex: 1 1 auto; }
#title h1 { margin: 0; white-space: nowrap; font-size: clamp(18px, 4.8vw, 30px); }
#language { flex: 0 0 auto; width: auto; }
#language .wrap { flex-wrap: nowrap; gap: 6px; }
#ask, #stop, #clear { padding-inline: 6px; white-space: nowrap; font-size: 16px; }
@media (max-width: 640px) { #language label { padding: 6px 8px; font-size: 14px; } }
#intro { max-width: 80ch; }
#pictures .grid-container { padding-top: 26px; } /* below the label and the buttons */
.words { max-width: 80ch; }
.head { font-weight: 600; }
#examples { gap: 8px; display: grid; grid-template-columns: 1fr 1fr; }
#examples button { justify-content: flex-start; text-align: left; padding: 6px 8px; font-weight: 400;
    white-space: normal; line-height: 1.25; flex-wrap: nowrap; }
#examples img { flex: none; width: 40px; height: 40px; border-radius: 6px; margin-right: 8px; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(210px, 1fr)); gap: 12px; }
.card { border: 1px solid var(--border-color-primary); border-radius: 10px; padding: 12px 14px;
    background: var(--background-fill-primary); display: flex; flex-direction: column; gap: 6px; }
.card header, .card footer { display: flex; justify-content: space-between; align-items: baseline; gap: 4px 8px;
    flex-wrap: wrap; }
.card h4 { margin: 0; font-size: 15px; }
.card p { margin: 0; }
.card .answer { font-size: 18px; flex: 1; overflow-wrap: anywhere; padding: 4px 0; }
.card .schedule, .card footer, .empty { color: var(--body-text-color-subdued); font-size: 13px; }
.badge { font-size: 12px; padding: 1px 8px; border-radius: 999px; background: var(--primary-600); color: white; }
.layers { display: flex; gap: 2px; height: 8px; }
.layers i { flex: 1; border-radius: 2px; background: var(--neutral-400); }
.layers i.circle { background: var(--primary-500); }
.asked { font-style: italic; margin: 0 0 10px; overflow-wrap: anywhere; }
.pending { color: var(--body-text-color-subdued); }
"""

# Pictures can be pasted anywhere on the page, and by a button where there is no keyboard.
SCRIPT = """() => {
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
}"""
NOW = "(...inputs) => [...inputs.slice(0, -1), Date.now()]"  # the last input is the time
PASTE = "async (_, lang) => [await window.pastePicture(), lang]"
# The answer comes in the first tab, which on a narrow screen is below what the visitor sees.
SHOW_ANSWER = """(...inputs) => {
    document.querySelector("#tabs button[role=tab]").click();
    if (innerWidth < 768) document.querySelector("#tabs").scrollIntoView({ behavior: "smooth" });
    return inputs;
}"""
READ_PAGE = """() => [
    document.body.classList.contains("dark"),
    navigator.language.startsWith("zh") ? "zh" : "en",
]"""
