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
FAINT = {False: "#d4d4d8", True: "#52525b"}
# Light and dark follow the numbers, so that it can be read in grey and by colour-blind people.
SCALE = "Cividis"
COLOURS = ("#0072b2", "#d55e00")  # of the geometries, which colour-blind people can tell apart
OPACITY = 0.75  # of the attention over its picture
NEAR_TOKENS = 4  # at least so far is near
VIEWS = ("picture", "axis", "whole")
# The text axis is (1, 1, 1). It stands upright beside a picture, whose ring is the base of a cone then; along it one
# looks down at the ring, with the rows of the picture downwards.
CAMERAS = {
    "picture": {"eye": {"x": 1.8, "y": -0.8, "z": 0.52}, "up": {"x": 1, "y": 1, "z": 1}},
    "axis": {
        "eye": {"x": 1, "y": 1, "z": 1},
        "up": {"x": 0, "y": -1, "z": 0},
        "projection": {"type": "orthographic"},
    },
    # Not along (1, 1, 1), where the text axis would be a point.
    "whole": {"eye": {"x": 2.1, "y": -1.8, "z": 0.8}, "center": {"x": 0, "y": 0, "z": -0.1}},
}


def draw_positions(
    layout: Layout | None, rows: np.ndarray | None, lang: str, dark: bool, view: str = "whole"
) -> go.Figure:
    """The tokens at their (t, h, w) index: text on its axis, pictures by their rows, and the cone to a token of text.

    Args:
        layout: the tokens, or None for an empty figure that says what to do.
        rows: float `(3, seq)`, the index under one geometry.
        lang: `"en"` or `"zh"`.
        dark: whether the page is dark.
        view: one of `VIEWS`: the pictures with the text near them, the same seen along the text, or the whole input.
    """
    figure = go.Figure(layout=_base(dark))
    axis = {"showbackground": False, "gridcolor": FAINT[dark], "zeroline": False, "color": INK[dark], "nticks": 5}
    figure.update_layout(
        height=400,
        # The camera stays where the visitor put it while a slider moves.
        uirevision=view,
        scene={
            "xaxis": {"title": "t", **axis},
            "yaxis": {"title": "h", **axis},
            "zaxis": {"title": "w", **axis},
            "aspectmode": "data",
            "domain": {"y": [0, 0.93]},  # the scale of the colours is above
            "camera": CAMERAS[view],
        },
        legend={"orientation": "h", "x": 0.5, "xanchor": "center", "y": 0, "yanchor": "top"},
    )
    if layout is None:
        return _say_so(figure, say("see_empty", lang))
    slots = _shown_text(layout, rows, view)
    if layout.frames:
        _draw_cone(figure, layout, rows, tip(layout, rows, view), lang, dark)
    _draw_text(figure, layout, rows, slots, lang, dark)
    most_rows = max((frame.rows for frame in layout.frames), default=1)
    for number, frame in enumerate(layout.frames):
        _draw_frame(figure, frame, rows[:, frame.slots], lang, most_rows, is_first=number == 0)
    return figure


def _shown_text(layout, rows, view):
    """Slots of the text: of all of it, or of what lies as near to the pictures as they are large."""
    slots = np.flatnonzero(~layout.is_vision)
    if view == "whole" or not layout.frames:
        return slots
    pictures = rows[:, layout.is_vision]
    large = max(np.ptp(pictures, axis=1).max(), NEAR_TOKENS)
    along, picture = rows[:, slots].mean(0), pictures.mean(0)
    behind = along[slots > layout.frames[0].slots.start].min()
    reach = large / 8 if view == "axis" else large
    # The first token behind is shown wherever it is: the cone needs a tip.
    is_near = (along >= picture.min() - reach / 2) & (along <= max(picture.max() + reach, behind))
    return slots[is_near]


def tip(layout: Layout, rows: np.ndarray, view: str) -> int:
    """The last slot behind the first picture that the view shows and that holds a word, or the last one of all."""
    slots = _shown_text(layout, rows, view)
    behind = slots[slots > layout.frames[0].slots.start]
    return next((slot for slot in behind[::-1] if layout.tokens[slot].strip()[:1].isalnum()), slots[-1])


def _draw_text(figure, layout, rows, slots, lang, dark):
    figure.add_scatter3d(
        **_points(rows[:, slots]),
        mode="lines+markers",
        name=say("text_tokens", lang),
        line={"color": INK[dark], "width": 2},
        marker={"size": 2.5, "color": INK[dark]},
        customdata=[[_readable(layout.tokens[slot]), int(slot)] for slot in slots],
        hovertemplate="%{customdata[0]}<br>#%{customdata[1]}" + _COORDINATES,
    )


def _readable(token):
    """A token as Plotly may show it, which takes HTML."""
    return html.escape(repr(token)[1:-1], quote=False)


def _word(layout, slot):
    return _readable(layout.tokens[slot].strip(" "))


def _draw_frame(figure, frame, points, lang, most_rows, is_first):
    row, column = np.divmod(np.arange(frame.rows * frame.columns), frame.columns)
    name = frame_name(frame, lang)
    marker = {
        "size": 5.5,
        "symbol": SYMBOLS[(frame.picture - 1) % len(SYMBOLS)],
        "color": row + 1,
        "colorscale": SCALE,
        "cmin": 1,
        "cmax": max(2, most_rows),
        "line": {"width": 0.5, "color": "#71717a"},
    }
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
    figure.add_scatter3d(
        **_points(points),
        mode="markers",
        # Of a video one entry is enough.
        name=say("video_number", lang).format(number=frame.picture) if frame.step else name,
        showlegend=frame.step <= 1,
        legendgroup=str(frame.picture),
        marker=marker,
        customdata=[
            [words.format(row=r + 1, column=c + 1), frame.slots.start + n] for n, (r, c) in _cells(row, column)
        ],
        hovertemplate=name + "<br>%{customdata[0]}<br>#%{customdata[1]}" + _COORDINATES,
    )


def _cells(row, column):
    return enumerate(zip(row.tolist(), column.tolist()))


def _draw_cone(figure, layout, rows, slot, lang, dark):
    """Lines from a token of text to every token of the first picture or frame, and the ring if that is one."""
    tip, base = rows[:, slot : slot + 1], rows[:, layout.frames[0].slots]
    lines = np.full((3, 3 * base.shape[1]), np.nan)
    lines[:, ::3], lines[:, 1::3] = tip, base
    if np.ptp(np.linalg.norm(base - tip, axis=0)) < 1e-3:
        lines = np.hstack([lines, _ring(base)])
    figure.add_scatter3d(
        **_points(lines),
        mode="lines",
        name=say("cone", lang).format(token=_word(layout, slot)),
        line={"color": FAINT[dark], "width": 2},
        hoverinfo="skip",
    )


def _ring(base, count=73):
    """The circle around (1, 1, 1) on which these points lie, `(3, count)`."""
    centre = np.full(3, base.mean())
    radius = np.linalg.norm(base[:, 0] - centre)
    across, along = np.array([[1, -1, 0], [1, 1, -2]]) / np.sqrt([[2], [6]])
    turn = np.linspace(0, 2 * np.pi, count)
    return centre[:, None] + radius * (np.outer(across, np.cos(turn)) + np.outer(along, np.sin(turn)))


_COORDINATES = "<br>t %{x:.2f}, h %{y:.2f}, w %{z:.2f}<extra></extra>"


def _points(rows):
    return dict(zip("xyz", np.round(rows.astype(float), 4)))


def frame_name(frame, lang: str) -> str:
    """What a picture, or a step of a video, is called."""
    if frame.step:
        return say("video_step", lang).format(number=frame.picture, step=frame.step)
    return say("picture_number", lang).format(number=frame.picture)


def draw_logits(layout: Layout | None, logits: dict[str, Logits], word: int, lang: str, dark: bool) -> go.Figure:
    """The logit of every token of the first picture by its distance from a word, under each geometry.

    Args:
        layout: the tokens, or None for an empty figure that says what to do.
        logits: under `"mrope"` and `"circle"`.
        word: slot of the word.
        lang: `"en"` or `"zh"`.
        dark: whether the page is dark.
    """
    figure = go.Figure(layout=_base(dark))
    figure.update_layout(height=320, legend={"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"})
    if not logits:
        return _say_so(figure, say("see_empty", lang))
    frame = layout.frames[0]
    cells = _hover_cells(frame.rows, frame.columns, "%{x:.2f}, %{y:.3f}", lang)
    cells["customdata"] = sum(cells["customdata"], [])  # in one row
    for (name, seen), symbol, colour in zip(logits.items(), SYMBOLS, COLOURS):
        figure.add_scatter(
            x=np.round(seen.distances, 4),
            y=np.round(seen.logits, 4),
            mode="markers",
            name=say("logits_of", lang).format(geometry=say(f"{name}_plot", lang), spread=f"{seen.spread:.3f}"),
            marker={"symbol": symbol, "color": colour, "size": 8, "line": {"width": 0.5, "color": INK[dark]}},
            **cells,
        )
    axis = {"gridcolor": FAINT[dark], "zeroline": False, "fixedrange": True, "automargin": True}
    figure.update_xaxes(title=say("distance_axis", lang).format(token=_word(layout, word)), rangemode="tozero", **axis)
    figure.update_yaxes(title=say("logit_axis", lang), **axis)
    return figure


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
