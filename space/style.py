"""How the Space looks: gradio's own theme with the fonts of the visitor's system, and a few rules for what we add."""

import gradio as gr

SANS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "Noto Sans CJK SC", "PingFang SC", "sans-serif"]
MONO = ["ui-monospace", "Menlo", "Consolas", "monospace"]

# Fonts by name only: nothing is fetched from elsewhere.
THEME = gr.themes.Soft(primary_hue="indigo", secondary_hue="indigo", neutral_hue="zinc", font=SANS, font_mono=MONO)

CSS = """
.gradio-container { max-width: 1360px !important; margin: 0 auto !important; }
#top { align-items: center; flex-wrap: nowrap; }
#top h1 { margin: 0; white-space: nowrap; }
#language { flex: 0 0 auto; margin-left: auto; }
#intro { max-width: 80ch; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(220px, 1fr)); gap: 12px; }
.card { border: 1px solid var(--border-color-primary); border-radius: 10px; padding: 12px 14px;
    background: var(--background-fill-primary); display: flex; flex-direction: column; gap: 6px; }
.card header, .card footer { display: flex; justify-content: space-between; align-items: baseline; gap: 8px; flex-wrap: wrap; }
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
@media (max-width: 640px) { #top h1 { font-size: 24px; } }
"""
