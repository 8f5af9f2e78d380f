"""What all charts share: canvas, colours, headings, axes, bars. Imports matplotlib only when it draws."""

import io
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from artifygan_jax.data.images import printable

BLUE, LIGHT, ORANGE, INK, GREY, RULE = (
    "#1f5f99", "#a9c6e0", "#c8641b", "#1d2733", "#5c6773", "#dfe4ea"
)  # fmt: skip
SIZE, DPI = (12.8, 7.2), 150  # 1920 x 1080

Numbers = dict[str, Any]
Chart = Callable[[Any, Numbers], None]  # draws numbers on a matplotlib figure


def png(chart: Chart, numbers: Numbers) -> bytes:
    """The bytes of one chart as a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    with warnings.catch_warnings():  # a tag in letters that the font lacks shows as boxes
        warnings.filterwarnings("ignore", "Glyph .* missing")
        chart(figure, numbers)
        figure.savefig(buffer, format="png", metadata={"Software": "artifygan_jax"})
    return buffer.getvalue()


def head(figure: Any, title: str, subtitle: str, numbers: Numbers) -> None:
    """The fact, what is shown, and where it is from."""
    text = figure.text(
        0.035, 0.965, title, size=23, weight="bold", color=INK, va="top", parse_math=False
    )
    room = 0.93 * figure.bbox.width / text.get_window_extent().width
    text.set_size(23 * min(1, room))  # the names in it may be of any length
    figure.text(0.035, 0.895, subtitle, size=14, color=GREY, va="top", parse_math=False)
    source = f"Source: {numbers['source']}"
    figure.text(0.035, 0.022, source, size=10.5, color=GREY, parse_math=False)


def plain_axes(
    figure: Any, left: float, right: float, bottom: float = 0.12, top: float = 0.82
) -> Any:
    """Plain axes in fractions of the figure: no frame, quiet rules."""
    axes = figure.add_axes((left, bottom, right - left, top - bottom))
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(GREY)
    axes.tick_params(length=0, labelsize=13, colors=INK, pad=6)
    axes.set_axisbelow(True)
    return axes


def label(axes: Any, x: str = "", y: str = "") -> None:
    """What the axes measure."""
    axes.set_xlabel(x, size=14, color=GREY, labelpad=8)
    axes.set_ylabel(y, size=14, color=GREY, labelpad=8)


def bars(
    axes: Any,
    names: Sequence[str],
    values: Sequence[float],
    texts: Sequence[str],
    *,
    top: float,
    size: float = 13,
) -> None:
    """Horizontal bars from zero, the first on top, each with its value at its end; `top` ends the axis."""
    rows = range(len(names))
    axes.barh(rows, values, color=BLUE, height=0.72)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, top)
    axes.set_yticks(rows, list(names), size=size, parse_math=False)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    for row, value, text in zip(rows, values, texts):
        axes.text(value + top * 0.012, row, text, size=size, color=INK, va="center_baseline")


def two_columns(
    figure: Any,
    ranked: Sequence[tuple[str, float]],
    texts: Sequence[str],
    *,
    left: float,
    width: float,
    room: float,
    size: float,
) -> None:
    """Many bars, the first half on the left and the rest on the right, both on one scale.

    `left` and `width` place the left axes; `room` is the end of the scale in units of the longest bar.
    """
    half = -(-len(ranked) // 2)
    top = room * max(value for _, value in ranked) or 1
    for start, at in ((0, left), (half, 0.985 - width)):
        part = ranked[start : start + half]
        if part:
            axes = plain_axes(figure, at, at + width, bottom=0.06, top=0.85)
            names, values = zip(*part)
            bars(axes, names, values, texts[start : start + half], top=top, size=size)
            axes.set_ylim(half - 0.4, -0.6)  # bars as thick as on the left where there are fewer


def columns(axes: Any, x: Sequence[float], heights: Sequence[float], width: float) -> None:
    """Vertical bars from zero with rules behind."""
    axes.bar(x, heights, width=width * 0.92, color=BLUE)
    axes.yaxis.grid(True, color=RULE, linewidth=1)
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.yaxis.set_major_formatter(comma)
    axes.set_ylim(0, max(heights) * 1.08)


def mark(axes: Any, x: float, text: str) -> None:
    """A vertical line with its meaning beside its top, on the side with more room."""
    axes.axvline(x, color=ORANGE, linewidth=2)
    start, end = axes.get_xlim()
    left = x > (start + end) / 2
    axes.annotate(
        text, (x, 1), (-8 if left else 8, -2), ha="right" if left else "left", va="top",
        xycoords=("data", "axes fraction"), textcoords="offset points", size=13, color=ORANGE,
        weight="bold",
    )  # fmt: skip


def short(name: str) -> str:
    """A label that fits: 29 characters at most, none of them odd."""
    name = printable(name)
    return name if len(name) <= 29 else name[:28] + "…"


def comma(value: float, _: int) -> str:
    """A tick with its commas."""
    return f"{value:,.0f}"


def words(name: str) -> str:
    """An attribute's name as words: Mouth_Slightly_Open -> Mouth Slightly Open."""
    return name.replace("_", " ")
