"""The pictures that the Space draws with Plotly: the positions in space, and the attention laid over the picture."""

import base64
import html
import io

import numpy as np
import plotly.graph_objects as go
from PIL import Image
from plotly.colors import sample_colorscale

from positions import Layout, Logits
from texts import say

SYMBOLS = ("circle", "diamond", "square", "cross")
INK = {False: "#27272a", True: "#e4e4e7"}
GRID = {False: "#e4e4e7", True: "#3f3f46"}
# Lines and dots stand out from the page by 3:1 at least.
FAINT = {False: "#85858f", True: "#8b8b94"}
# Of the geometries, which colour-blind people can tell apart.
COLOURS = {False: ("#0072b2", "#c45200"), True: ("#56b4e9", "#e69f00")}
# Light and dark follow the numbers, so that it can be read in grey and by colour-blind people.
SCALE = "Cividis"
ENDS = {False: (0, 0.6), True: (0.45, 1)}
ROWS = {dark: sample_colorscale(SCALE, np.linspace(*ends, 16)) for dark, ends in ENDS.items()}
OPACITY = 0.75  # of the attention over its picture
VIEWS = ("picture", "axis", "whole")
# The text axis is (1, 1, 1). It stands upright beside a picture, whose ring is the base of a cone then; along it one
# looks down at the ring, with the rows of the picture downwards. The whole input has the text along its first axis.
CAMERAS = {
    "picture": {"eye": {"x": 2.2, "y": -1.0, "z": 0.65}, "up": {"x": 1, "y": 1, "z": 1}},
    "axis": {
        "eye": {"x": 1, "y": 1, "z": 1},
        "up": {"x": 0, "y": -1, "z": 0},
        "projection": {"type": "orthographic"},
    },
    "whole": {"eye": {"x": 0.25, "y": -1.5, "z": 0.35}, "projection": {"type": "orthographic"}},
}
# Onto the text axis and the two directions of the ring.
TURN = np.array([[1, 1, 1], [0, -1, 1], [2, -1, -1]]) / np.sqrt([[3], [2], [6]])
TURN_GAP = 3  # more tokens than these between two words are where another begins to speak


def draw_positions(
    layout: Layout | None, places: dict[str, np.ndarray], placed: str, lang: str, dark: bool, view: str = "whole"
) -> go.Figure:
    """The tokens at their (t, h, w) index: words on the text axis, pictures by their rows, and the cone to a word.

    Args:
        layout: the tokens, or None for an empty figure that says what to do.
        places: float `(3, seq)` under every geometry; all of them fit the axes, so that nothing moves but the tokens.
        placed: the geometry that is shown.
        lang: `"en"` or `"zh"`.
        dark: whether the page is dark.
        view: one of `VIEWS`: the pictures with the words near them, the same seen along the text, or the whole input.
    """
    figure = go.Figure(layout=_base(dark))
    figure.update_layout(height=310)
    if layout is None:
        return _say_so(figure, say("see_empty", lang))
    words = layout.all_words if view == "whole" else layout.words
    turned = {name: TURN @ rows if view == "whole" else rows for name, rows in places.items()}
    shown = np.concatenate([np.flatnonzero(layout.is_vision), words])
    _set_axes(figure, [rows[:, shown] for rows in turned.values()], view, lang, dark)
    rows = turned[placed]
    if layout.frames:
        _draw_cone(figure, layout, rows, lang, dark)
    _draw_text(figure, layout, rows, places[placed], words, view, lang, dark)
    most_rows = max((frame.rows for frame in layout.frames), default=1)
    for number, frame in enumerate(layout.frames):
        index = places[placed][:, frame.slots]
        _draw_frame(figure, frame, rows[:, frame.slots], index, lang, dark, most_rows, is_first=number == 0)
    return figure


def _set_axes(figure, all_rows, view, lang, dark):
    """The same axes for every geometry; only that of the whole input is squeezed, to be readable after many turns."""
    axis = {"showbackground": False, "gridcolor": GRID[dark], "zeroline": False, "color": INK[dark], "nticks": 5}
    points = np.hstack(all_rows)
    low, high = points.min(1) - 0.5, points.max(1) + 0.5
    names = ("t", "h", "w") if view != "whole" else (say("along_text", lang), "", "")
    scene = {"camera": CAMERAS[view], "aspectmode": "data", "domain": {"y": [0.06, 0.9]}}
    for letter, name, *ends in zip("xyz", names, low.tolist(), high.tolist()):
        hidden = {} if name else {"showticklabels": False}
        scene[f"{letter}axis"] = {"title": name, "range": ends, **axis, **hidden}
    if view == "whole":
        scene |= {"aspectmode": "manual", "aspectratio": {"x": 2.7, "y": 0.9, "z": 0.9}}
    # The camera stays where the visitor put it while a slider moves.
    legend = {"orientation": "h", "x": 0.5, "xanchor": "center", "y": 0, "yanchor": "bottom"}
    figure.update_layout(uirevision=view, scene=scene, legend=legend)


def _draw_text(figure, layout, rows, index, words, view, lang, dark):
    """The words on their axis, and as many of them written beside it as can be read."""
    if view == "whole":  # the last word of what each said in turn
        written = [slot for slot, following in zip(words, [*words[1:], np.inf]) if following - slot > TURN_GAP]
    else:
        written = [slot for slot in words if not layout.frames or slot > layout.frames[0].slots.start]
    figure.add_scatter3d(
        **_points(rows[:, words]),
        mode="lines+markers+text",
        name=say("text_tokens", lang),
        text=[_word(layout, slot) if slot in written else "" for slot in words],
        textposition="top center" if view == "whole" else "middle right",
        textfont={"size": 10, "color": INK[dark]},
        line={"color": INK[dark], "width": 2},
        marker={"size": 2.5, "color": INK[dark]},
        customdata=[[_readable(layout.tokens[slot]), int(slot), *index[:, slot].tolist()] for slot in words],
        hovertemplate="%{customdata[0]}<br>#%{customdata[1]}" + _COORDINATES,
    )


def _readable(token):
    """A token as Plotly may show it, which takes HTML."""
    return html.escape(repr(token)[1:-1], quote=False)


def _word(layout, slot):
    return _readable(layout.tokens[slot].strip(" "))


def _draw_frame(figure, frame, points, index, lang, dark, most_rows, is_first):
    row, column = np.divmod(np.arange(frame.rows * frame.columns), frame.columns)
    name = frame_name(frame, lang)
    marker = {"size": 5.5, "symbol": SYMBOLS[(frame.picture - 1) % len(SYMBOLS)], **_by_row(row, most_rows, dark)}
    if is_first:
        marker["colorbar"] = {
            "title": {"text": say("row", lang), "side": "right"},
            "orientation": "h",
            "thickness": 8,
            "len": 0.6,
            "y": 1.02,
            "yanchor": "top",
            "tickformat": "d",
            "nticks": min(6, most_rows),
        }
    words = say("hover_cell", lang)
    cells = enumerate(zip(row.tolist(), column.tolist(), index.T.tolist()))
    figure.add_scatter3d(
        **_points(points),
        mode="markers",
        # Of a video one entry is enough.
        name=say("video_number", lang).format(number=frame.picture) if frame.step else name,
        showlegend=frame.step <= 1,
        legendgroup=str(frame.picture),
        marker=marker,
        customdata=[[words.format(row=r + 1, column=c + 1), frame.slots.start + n, *thw] for n, (r, c, thw) in cells],
        hovertemplate=name + "<br>%{customdata[0]}<br>#%{customdata[1]}" + _COORDINATES,
    )


def _by_row(row, most_rows, dark):
    return {"color": row + 1, "colorscale": ROWS[dark], "cmin": 1, "cmax": max(2, most_rows)}


def _draw_cone(figure, layout, rows, lang, dark):
    """Lines from the word to every token of the first picture or frame."""
    tip, base = rows[:, [layout.word]], rows[:, layout.frames[0].slots]
    lines = np.full((3, 3 * base.shape[1]), np.nan)
    lines[:, ::3], lines[:, 1::3] = tip, base
    figure.add_scatter3d(
        **_points(lines),
        mode="lines",
        name=say("cone", lang).format(token=_word(layout, layout.word)),
        line={"color": FAINT[dark], "width": 2},
        hoverinfo="skip",
    )


_COORDINATES = "<br>t %{customdata[2]:.2f}, h %{customdata[3]:.2f}, w %{customdata[4]:.2f}<extra></extra>"


def _points(rows):
    return dict(zip("xyz", np.round(rows.astype(float), 4)))


def frame_name(frame, lang: str) -> str:
    """What a picture, or a step of a video, is called."""
    if frame.step:
        return say("video_step", lang).format(number=frame.picture, step=frame.step)
    return say("picture_number", lang).format(number=frame.picture)


def draw_distances(layout: Layout | None, logits: dict[str, Logits], lang: str, dark: bool) -> go.Figure:
    """A strip for each geometry: how far the tokens of the first picture are from the word, one above the other."""
    figure = go.Figure(layout=_base(dark))
    figure.update_layout(height=130, showlegend=False)
    if not logits:
        return _say_so(figure, "")
    frame = layout.frames[0]
    row = np.arange(frame.rows * frame.columns) // frame.columns
    heights, names = np.linspace(-0.35, 0.35, len(row)), []
    for line, (name, seen) in enumerate(reversed(logits.items())):
        ends = [f"{end:.2f}" for end in (seen.distances.min(), seen.distances.max())]
        names.append(f"{say(f'{name}_plot', lang)}<br>{' – '.join(dict.fromkeys(ends))}")
        marker = {"size": 7, **_by_row(row, frame.rows, dark)}
        figure.add_scatter(y=np.round(line + heights, 4), name=name, marker=marker, **_far(frame, seen, "", lang))
    axis = _draw_axis(figure, layout, lang, dark)
    figure.update_yaxes(tickvals=list(range(len(names))), ticktext=names, range=[-0.6, len(names) - 0.4], **axis)
    return figure


def draw_logits(layout: Layout | None, logits: dict[str, Logits], lang: str, dark: bool) -> go.Figure:
    """The logit of every token of the first picture by its distance from the word, under each geometry."""
    figure = go.Figure(layout=_base(dark))
    figure.update_layout(height=320, legend={"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"})
    if not logits:
        return _say_so(figure, say("see_empty", lang))
    for (name, seen), symbol, colour in zip(logits.items(), SYMBOLS, COLOURS[dark]):
        title = say("logits_of", lang).format(geometry=say(f"{name}_plot", lang), spread=f"{seen.spread:.3f}")
        marker = {"symbol": symbol, "color": colour, "size": 8}
        cells = _far(layout.frames[0], seen, ", %{y:.3f}", lang)
        figure.add_scatter(y=np.round(seen.logits, 4), name=title, marker=marker, **cells)
    figure.update_yaxes(title=say("logit_axis", lang), **_draw_axis(figure, layout, lang, dark))
    return figure


def _far(frame, seen, value, lang):
    """The tokens of the first picture by their distance from the word."""
    cells = _hover_cells(frame.rows, frame.columns, "%{x:.2f}" + value, lang)
    return cells | {"customdata": sum(cells["customdata"], []), "x": np.round(seen.distances, 4), "mode": "markers"}


def _draw_axis(figure, layout, lang, dark):
    """Draws the axis of the distances, and returns what the other one shares with it."""
    axis = {"gridcolor": GRID[dark], "zeroline": False, "fixedrange": True, "automargin": True}
    title = say("distance_axis", lang).format(token=_word(layout, layout.word))
    figure.update_xaxes(title=title, rangemode="tozero", **axis)
    return axis


def draw_attention(
    picture: Image.Image | None,
    weights: np.ndarray | None,
    largest: float,
    lang: str,
    dark: bool,
    opacity: float = OPACITY,
) -> go.Figure:
    """One picture in grey with the attention that its cells get laid over it.

    Args:
        picture: as the visitor sent it, or None for an empty figure that says what to do.
        weights: `(rows, columns)`, shares of the whole attention.
        largest: the weight with the brightest colour, the same for figures that are compared.
        lang: `"en"` or `"zh"`.
        dark: whether the page is dark.
        opacity: of the attention, from 0 to 1.
    """
    figure = go.Figure(layout=_base(dark))
    figure.update_layout(height=360)
    if picture is None:
        return _say_so(figure, say("attention_empty", lang))
    rows, columns = weights.shape
    place = {"x": 0, "y": 0, "sizex": columns, "sizey": rows, "xref": "x", "yref": "y"}
    figure.add_layout_image(source=_data_uri(picture), sizing="stretch", layer="below", **place)
    figure.add_heatmap(
        z=100 * weights,
        x0=0.5,
        y0=0.5,
        zmin=0,
        zmax=100 * max(largest, 1e-9),
        colorscale=SCALE,
        opacity=opacity,
        colorbar={"thickness": 8, "len": 0.9, "ticksuffix": " %", "nticks": 5},
        **_hover_cells(rows, columns, "%{z:.3f} %", lang),
    )
    axis = {"visible": False, "fixedrange": True, "constrain": "domain"}
    figure.update_xaxes(range=[0, columns], **axis)
    figure.update_yaxes(range=[rows, 0], scaleanchor="x", scaleratio=_cell_shape(picture, rows, columns), **axis)
    return figure


def _hover_cells(rows, columns, value, lang):
    """What is said of the cells of a picture: where each is, and its value."""
    place = say("hover_cell", lang).format(row="%{customdata[0]}", column="%{customdata[1]}")
    cells = [[[row + 1, column + 1] for column in range(columns)] for row in range(rows)]
    return {"customdata": cells, "hovertemplate": f"{place}<br>{value}<extra></extra>"}


def small_map(weights: np.ndarray, largest: float) -> str:
    """The attention to one picture as an image of one pixel for every cell, in the colours of `draw_attention`."""
    levels = np.round(weights / max(largest, 1e-9) * (len(_LEVELS) - 1)).astype(np.uint8)
    image = Image.fromarray(levels, "P")
    image.putpalette([part for colour in _LEVELS for part in colour])
    return _uri(image, "PNG")


_LEVELS = [tuple(round(float(part)) for part in colour[4:-1].split(",")) for colour in sample_colorscale(SCALE, 64)]


def _cell_shape(picture, rows, columns):
    """Height of a cell, measured in its width, that leaves the picture its own shape."""
    return (picture.height / rows) / (picture.width / columns)


def _data_uri(picture):
    small = picture.convert("L")  # all colours are the attention's
    small.thumbnail((512, 512))
    if min(small.size) < 256:  # a small picture is enlarged here: the browser would blur it
        scale = 256 / min(small.size)
        small = small.resize((round(small.width * scale), round(small.height * scale)), Image.Resampling.BICUBIC)
    return _uri(small, "JPEG", quality=90)


def _uri(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return f"data:image/{kind.lower()};base64," + base64.b64encode(stream.getvalue()).decode()


def _base(dark):
    return {
        "template": "none",
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": INK[dark], "family": "system-ui, sans-serif", "size": 12},
        "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
    }


def _say_so(figure, words):
    hidden = {"visible": False}
    figure.update_layout(
        xaxis=hidden,
        yaxis=hidden,
        annotations=[{"text": words, "showarrow": False, "xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5}],
    )
    return figure
