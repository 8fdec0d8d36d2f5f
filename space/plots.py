"""The pictures that the Space draws with Plotly: the positions in space, and the attention laid over the picture."""

import base64
import io

import numpy as np
import plotly.graph_objects as go
from PIL import Image

from positions import Layout
from texts import say

SYMBOLS = ("circle", "diamond", "square", "cross")
INK = {False: "#27272a", True: "#e4e4e7"}
FAINT = {False: "#d4d4d8", True: "#52525b"}
ROWS = "Portland"  # no colour of it is lost on a light or a dark page
# Over a pale picture: nothing where there is no attention, dark red where there is most.
HEAT = [
    [0, "rgba(255, 237, 160, 0)"],
    [0.25, "rgba(254, 204, 92, 0.45)"],
    [0.6, "rgba(240, 90, 40, 0.7)"],
    [1, "rgba(150, 0, 40, 0.85)"],
]


def draw_positions(layout: Layout | None, rows: np.ndarray | None, lang: str, dark: bool) -> go.Figure:
    """The tokens at their (t, h, w) index: text on its axis, pictures by their rows, the cone to the last token.

    Args:
        layout: the tokens, or None for an empty figure that says what to do.
        rows: float `(3, seq)`, the index under one geometry.
        lang: `"en"` or `"zh"`.
        dark: whether the page is dark.
    """
    figure = go.Figure(layout=_base(dark))
    axis = {"showbackground": False, "gridcolor": FAINT[dark], "zeroline": False, "color": INK[dark]}
    figure.update_layout(
        height=400,
        # The camera stays where the visitor put it while a slider moves.
        uirevision="kept",
        scene={
            "xaxis": {"title": "t", **axis},
            "yaxis": {"title": "h", **axis},
            "zaxis": {"title": "w", **axis},
            "aspectmode": "data",
            # Not along (1, 1, 1), where the text axis would be a point.
            "camera": {"eye": {"x": 2.1, "y": -1.8, "z": 0.8}, "center": {"x": 0, "y": 0, "z": -0.1}},
        },
        legend={"orientation": "h", "x": 0.5, "xanchor": "center", "y": 0, "yanchor": "top"},
    )
    if layout is None:
        return _say_so(figure, say("see_empty", lang))
    if layout.frames:
        _draw_cone(figure, layout, rows, lang, dark)
    _draw_text(figure, layout, rows, lang, dark)
    most_rows = max((frame.rows for frame in layout.frames), default=1)
    for number, frame in enumerate(layout.frames):
        _draw_frame(figure, frame, rows[:, frame.slots], lang, most_rows, is_first=number == 0)
    return figure


def _draw_text(figure, layout, rows, lang, dark):
    slots = np.flatnonzero(~layout.is_vision)
    figure.add_scatter3d(
        **_points(rows[:, slots]),
        mode="lines+markers",
        name=say("text_tokens", lang),
        line={"color": INK[dark], "width": 2},
        marker={"size": 2.5, "color": INK[dark]},
        customdata=[[repr(layout.tokens[slot])[1:-1], int(slot)] for slot in slots],
        hovertemplate="%{customdata[0]}<br>#%{customdata[1]}" + _COORDINATES,
    )


def _draw_frame(figure, frame, points, lang, most_rows, is_first):
    row, column = np.divmod(np.arange(frame.rows * frame.columns), frame.columns)
    name = frame_name(frame, lang)
    marker = {
        "size": 5.5,
        "symbol": SYMBOLS[(frame.picture - 1) % len(SYMBOLS)],
        "color": row + 1,
        "colorscale": ROWS,
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
        name=name,
        # Of a video one entry is enough.
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


def _draw_cone(figure, layout, rows, lang, dark):
    """Lines from the last token, which writes the answer, to every token of the first picture or frame."""
    tip, base = rows[:, -1:], rows[:, layout.frames[0].slots]
    lines = np.full((3, 3 * base.shape[1]), np.nan)
    lines[:, ::3], lines[:, 1::3] = tip, base
    figure.add_scatter3d(
        **_points(lines),
        mode="lines",
        name=say("cone", lang),
        line={"color": FAINT[dark], "width": 1.5},
        hoverinfo="skip",
    )


_COORDINATES = "<br>t %{x:.2f}, h %{y:.2f}, w %{z:.2f}<extra></extra>"


def _points(rows):
    return dict(zip("xyz", np.round(rows.astype(float), 4)))


def frame_name(frame, lang: str) -> str:
    """What a picture, or a step of a video, is called."""
    if frame.step:
        return say("video_step", lang).format(number=frame.picture, step=frame.step)
    return say("picture_number", lang).format(number=frame.picture)


def draw_attention(
    picture: Image.Image | None, weights: np.ndarray | None, largest: float, lang: str, dark: bool
) -> go.Figure:
    """One picture with the attention that its cells get laid over it.

    Args:
        picture: as the visitor sent it, or None for an empty figure that says what to do.
        weights: `(rows, columns)`, shares of the whole attention.
        largest: the weight with the brightest colour, the same for figures that are compared.
        lang: `"en"` or `"zh"`.
        dark: whether the page is dark.
    """
    figure = go.Figure(layout=_base(dark))
    figure.update_layout(height=360)
    if picture is None:
        return _say_so(figure, say("attention_empty", lang))
    rows, columns = weights.shape
    figure.add_layout_image(
        source=_data_uri(picture),
        x=0,
        y=0,
        sizex=columns,
        sizey=rows,
        xref="x",
        yref="y",
        sizing="stretch",
        layer="below",
    )
    figure.add_heatmap(
        z=100 * weights,
        x0=0.5,
        y0=0.5,
        zmin=0,
        zmax=100 * max(largest, 1e-9),
        colorscale=HEAT,
        customdata=[[[r + 1, c + 1] for c in range(columns)] for r in range(rows)],
        hovertemplate=say("hover_cell", lang).format(row="%{customdata[0]}", column="%{customdata[1]}")
        + "<br>%{z:.3f} %<extra></extra>",
        colorbar={"thickness": 8, "len": 0.9, "ticksuffix": " %", "nticks": 5},
    )
    axis = {"visible": False, "fixedrange": True, "constrain": "domain"}
    figure.update_xaxes(range=[0, columns], **axis)
    figure.update_yaxes(range=[rows, 0], scaleanchor="x", scaleratio=_cell_shape(picture, rows, columns), **axis)
    return figure


def _cell_shape(picture, rows, columns):
    """Height of a cell, measured in its width, that leaves the picture its own shape."""
    return (picture.height / rows) / (picture.width / columns)


def _data_uri(picture):
    grey = picture.convert("L").convert("RGB")
    small = Image.blend(grey, picture, 0.4)  # pale, so that the colours of the attention can be read
    small.thumbnail((512, 512))
    if min(small.size) < 256:  # a small picture is enlarged here: the browser would blur it
        scale = 256 / min(small.size)
        small = small.resize((round(small.width * scale), round(small.height * scale)), Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


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
