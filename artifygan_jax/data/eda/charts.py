"""Charts for slides: 16:9, large type, one fact in the title, drawn from the numbers of `eda.json`.

Needs matplotlib (`artifygan_jax[report]`); draws on a canvas in memory, without pyplot or a display.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from artifygan_jax.data.eda import drawing
from artifygan_jax.data.eda.drawing import BLUE, GREY, INK, LIGHT, ORANGE, RULE, Chart, Numbers
from artifygan_jax.errors import UserError


def draw(numbers: Numbers) -> dict[str, bytes]:
    """PNG files by name (`attributes.png`, ...), 1920 x 1080, of all that the numbers have.

    `numbers` is what `eda.json` holds. Raises `UserError` without matplotlib.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UserError(
            "charts need matplotlib, which is not installed: pip install 'artifygan_jax[report]'"
        ) from error
    return {
        f"{name}.png": drawing.png(chart, numbers)
        for name, (key, chart) in CHARTS.items()
        if numbers.get(key)
    }


# ----------------------------------------------------------------------------------------- CelebA


def attributes(figure: Any, numbers: Numbers) -> None:
    """All attributes, sorted, in two columns with one scale."""
    ranked = sorted(numbers["attributes"].items(), key=lambda item: -item[1])
    rare = sum(value < 10 for _, value in ranked)
    drawing.head(
        figure,
        f"{rare} of the {len(ranked)} attributes are marked on fewer than 10 % of the faces",
        f"Share of the {numbers['pictures_listed']:,} CelebA pictures with each attribute, in %",
        numbers,
    )
    texts = [f"{value:.2f}" for _, value in ranked]
    labelled = [(drawing.words(name), value) for name, value in ranked]
    drawing.two_columns(figure, labelled, texts, left=0.2, width=0.29, room=1.15, size=13)


def correlations(figure: Any, numbers: Numbers) -> None:
    """The heat map with alike attributes side by side, and the strongest pairs."""
    table = numbers["correlations"]
    pairs = table["strongest"][:12]
    first = pairs[0]
    verb = "go together most" if first["phi"] > 0 else "are the most opposed"
    drawing.head(
        figure,
        f"{drawing.words(first['a'])} and {drawing.words(first['b'])} {verb}",
        "Phi of each two attributes: 1 the same marks, 0 independent, −1 opposite marks; like beside like",
        numbers,
    )
    phi = np.array(table["phi"], float)
    axes = drawing.plain_axes(figure, 0.135, 0.535, bottom=0.215, top=0.85)
    axes.spines["bottom"].set_visible(False)
    image = axes.imshow(phi, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    names = [drawing.words(name) for name in table["order"]]
    axes.set_xticks(range(len(names)), names, rotation=90, size=8, parse_math=False)
    axes.set_yticks(range(len(names)), names, size=8, parse_math=False)
    scale = figure.add_axes((0.55, 0.215, 0.012, 0.635))
    bar = figure.colorbar(image, cax=scale, ticks=(-1, -0.5, 0, 0.5, 1))
    bar.outline.set_visible(False)
    scale.tick_params(length=0, labelsize=12, colors=INK)
    _strongest(drawing.plain_axes(figure, 0.745, 0.975, bottom=0.1, top=0.8), pairs)


def _strongest(axes: Any, pairs: Sequence[dict]) -> None:
    """Bars left and right of zero in the colours of the heat map."""
    values = [pair["phi"] for pair in pairs]
    rows = range(len(pairs))
    axes.barh(rows, values, color=["#b2182b" if v > 0 else "#2166ac" for v in values], height=0.7)
    axes.set_title("Strongest pairs", size=15, weight="bold", color=INK, pad=12)
    axes.set_ylim(len(pairs) - 0.4, -0.6)
    axes.set_xlim(-1.4, 1.4)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.axvline(0, color=GREY, linewidth=1)
    names = [f"{drawing.words(pair['a'])}\n{drawing.words(pair['b'])}" for pair in pairs]
    axes.set_yticks(rows, names, size=10.5, parse_math=False)
    for row, value in zip(rows, values):
        side = "left" if value > 0 else "right"
        at = value + 0.04 * np.sign(value)
        axes.text(at, row, f"{value:.2f}".replace("-", "−"), size=12, va="center_baseline", ha=side)


def identities(figure: Any, numbers: Numbers) -> None:
    """How many persons have 1, 2, 3 ... pictures."""
    known = numbers["identities"]
    each = known["pictures_each"]
    drawing.head(
        figure,
        f"{known['count']:,} people with {each['mean']:.0f} pictures each on average,"
        f" {each['max']} at most",
        "People by how many pictures they have",
        numbers,
    )
    persons = {int(k): n for k, n in known["persons_by_pictures"].items()}
    axes = drawing.plain_axes(figure, 0.1, 0.97, bottom=0.15)
    drawing.columns(axes, list(persons), list(persons.values()), 1)
    drawing.label(axes, "pictures of one person", "people")
    drawing.mark(axes, each["median"], f"median {each['median']:g}")


def splits(figure: Any, numbers: Numbers) -> None:
    """Sizes of the splits, and the attributes in which they differ most."""
    parts = numbers["splits"]
    widest = _widest(parts)
    name = widest[0]
    shares = [part["attributes"][name] for part in parts.values()]
    sizes = [part["pictures"] for part in parts.values()]
    drawing.head(
        figure,
        f"{drawing.words(name)} differs most between the splits: {min(shares):.0f} to {max(shares):.0f} %",
        "Pictures in each split, and the attributes whose share varies most among them",
        numbers,
    )
    axes = drawing.plain_axes(figure, 0.12, 0.42, bottom=0.3, top=0.72)
    texts = [f"{part['pictures']:,}\n{part['percent']:.1f} %" for part in parts.values()]
    drawing.bars(axes, list(parts), sizes, texts, top=max(sizes) * 1.35, size=15)
    axes = drawing.plain_axes(figure, 0.66, 0.97, bottom=0.14, top=0.78)
    rows = range(len(widest))
    for marker, color, (split, part) in zip("oDs^", (BLUE, ORANGE, INK, GREY), parts.items()):
        shares = [part["attributes"][name] for name in widest]
        axes.scatter(shares, rows, s=90, marker=marker, color=color, label=split, alpha=0.9)
    axes.set_ylim(len(widest) - 0.4, -0.6)
    axes.set_yticks(rows, [drawing.words(name) for name in widest], size=13, parse_math=False)
    axes.xaxis.grid(True, color=RULE)
    axes.set_xlim(0, 100)
    drawing.label(axes, "% of the pictures of the split")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=4, frameon=False, fontsize=13)


def _widest(parts: dict[str, dict]) -> list[str]:
    """The twelve attributes with the widest range over the splits, widest first."""
    names = next(iter(parts.values()))["attributes"]
    shares = {name: [part["attributes"][name] for part in parts.values()] for name in names}
    spread = {name: max(values) - min(values) for name, values in shares.items()}
    return sorted(spread, key=lambda name: -spread[name])[:12]


def brightness(figure: Any, numbers: Numbers) -> None:
    """Mean luma and contrast of the pictures."""
    measured = numbers["pictures"]
    light, contrast = numbers["brightness"], numbers["contrast"]
    drawing.head(
        figure,
        f"Nine pictures in ten have a mean luma of {light['p5']:.0f} to {light['p95']:.0f} (of 255)",
        f"Mean and standard deviation of the luma of {measured['measured']:,} pictures ({measured['which']})",
        numbers,
    )
    for part, left, text in ((light, 0.09, "mean luma"), (contrast, 0.58, "contrast (SD of luma)")):
        axes = drawing.plain_axes(figure, left, left + 0.39, bottom=0.16)
        width = part["bin_width"]
        heights = part["histogram"]
        drawing.columns(axes, [width * (i + 0.5) for i in range(len(heights))], heights, width)
        axes.set_xlim(0, 256 if part is light else 128)  # no picture has a deviation over 127.5
        drawing.label(axes, f"{text}, 0 to 255", "pictures" if part is light else "")
        drawing.mark(axes, part["p50"], f"median {part['p50']:.0f}")


# -------------------------------------------------------------------------------------- Safebooru


def tags(figure: Any, numbers: Numbers) -> None:
    """The most frequent tags, in two columns with one scale."""
    ranked = [(drawing.short(tag), n) for tag, n in numbers["tags"].items()]
    most = ranked[0][1]
    drawing.head(
        figure,
        f"“{ranked[0][0]}” is the most frequent of {numbers['distinct_tags']:,} tags:"
        f" {100 * most / numbers['posts']:.0f} % of posts",
        f"The {len(ranked)} most frequent tags of {numbers['posts']:,} posts: posts with the tag",
        numbers,
    )
    texts = [f"{n:,}" for _, n in ranked]
    drawing.two_columns(figure, ranked, texts, left=0.24, width=0.25, room=1.25, size=11)


def deck_tags(figure: Any, numbers: Numbers) -> None:
    """The five attributes that the slide deck names, by their tags."""
    parts = sorted(numbers["deck_tags"].items(), key=lambda item: -item[1]["posts"])
    name, first = parts[0]
    drawing.head(
        figure,
        f"Of the deck's five attributes “{name}” is the most frequent: {first['percent']:.1f} % of posts",
        f"Posts with the tag for each, of {numbers['posts']:,}",
        numbers,
    )
    axes = drawing.plain_axes(figure, 0.24, 0.95, bottom=0.12, top=0.8)
    names = [
        f"{name}\n{part['tag']}" if drawing.words(part["tag"]) != name else name
        for name, part in parts
    ]
    values = [part["posts"] for _, part in parts]
    texts = [f"{part['posts']:,}  ({part['percent']:.2f} %)" for _, part in parts]
    drawing.bars(axes, names, values, texts, top=max(*values, 1) * 1.25, size=18)


def years(figure: Any, numbers: Numbers) -> None:
    """Posts by the year of their upload."""
    counts = {int(year): n for year, n in numbers["years"].items()}
    busiest = max(counts, key=lambda year: counts[year])
    drawing.head(
        figure,
        f"Posts from {min(counts)} to {max(counts)}, most of them in {busiest}"
        if len(counts) > 1
        else f"All posts are from {busiest}",
        "Posts by year of upload",
        numbers,
    )
    axes = drawing.plain_axes(figure, 0.1, 0.97, bottom=0.12)
    drawing.columns(axes, list(counts), list(counts.values()), 1)
    axes.xaxis.get_major_locator().set_params(integer=True)
    drawing.label(axes, "", "posts")


def scores(figure: Any, numbers: Numbers) -> None:
    """Scores; those beyond the outer percentiles are gathered in the first and last column."""
    counts = {int(score): n for score, n in numbers["scores"].items()}
    values = np.repeat(list(counts), list(counts.values()))
    low, high = (int(v) for v in np.percentile(values, (0.5, 99), method="nearest"))
    step = max(1, -(-(high - low + 1) // 40))
    edges = np.arange(low, high + step + 1, step)
    heights = np.histogram(values.clip(low, edges[-1] - 1), edges)[0]
    drawing.head(
        figure,
        f"The median score is {np.median(values):g};"
        f" {100 * np.mean(values <= 0):.0f} % of the posts are at zero or below",
        f"Posts by score, in steps of {step}; the outer columns hold all beyond (max {max(counts):,})",
        numbers,
    )
    axes = drawing.plain_axes(figure, 0.1, 0.97, bottom=0.15)
    drawing.columns(axes, (edges[:-1] + (step - 1) / 2).tolist(), heights.tolist(), step)
    drawing.label(axes, "score", "posts")


def sizes(figure: Any, numbers: Numbers) -> None:
    """Width against height on log scales, with the sizes that training asks for."""
    from matplotlib.colors import LinearSegmentedColormap, LogNorm

    known = numbers["sizes"]
    drawing.head(
        figure,
        f"{known['short_side_under_512_percent']:.1f} % of the pictures are under 512 px on the short side,"
        f" {known['short_side_under_256_percent']:.1f} % under 256",
        f"Width and height of {known['posts_with_size']:,} pictures ({known['of']})",
        numbers,
    )
    w, h, n = np.array(known["cells"]).T
    first = min(w.min(), h.min(), 28)
    grid = np.zeros((max(w.max(), h.max(), 40) - first + 1,) * 2)
    grid[h - first, w - first] = n
    edges = 2 ** (np.arange(first, first + len(grid) + 1) / 4)
    shades = LinearSegmentedColormap.from_list("posts", (LIGHT, BLUE, INK))
    norm = LogNorm(1, max(n.max(), 2))
    axes = drawing.plain_axes(figure, 0.12, 0.8, bottom=0.15)
    shown = axes.pcolormesh(edges, edges, np.ma.masked_equal(grid, 0), cmap=shades, norm=norm)
    for scale, line in ((axes.set_xscale, axes.axvline), (axes.set_yscale, axes.axhline)):
        scale("log", base=2)
        for side in (256, 512):
            line(side, color=ORANGE, linewidth=1.5)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(drawing.comma)
    drawing.label(axes, "width, px (orange: 256 and 512)", "height, px")
    ticks = [10**k for k in range(8) if 2 * 10**k < norm.vmax] + [norm.vmax]
    bar = figure.colorbar(shown, cax=figure.add_axes((0.83, 0.15, 0.015, 0.67)), ticks=ticks)
    bar.outline.set_visible(False)
    bar.minorticks_off()
    bar.ax.yaxis.set_major_formatter(drawing.comma)
    bar.ax.tick_params(length=0, labelsize=12, colors=INK)
    bar.set_label("posts (log scale)", size=13, color=GREY)


# Each chart, and the part of the numbers without which it is not drawn.
CHARTS: dict[str, tuple[str, Chart]] = {
    "attributes": ("attributes", attributes),
    "correlations": ("correlations", correlations),
    "identities": ("identities", identities),
    "splits": ("splits", splits),
    "brightness": ("brightness", brightness),
    "tags": ("tags", tags),
    "deck_tags": ("deck_tags", deck_tags),
    "years": ("years", years),
    "scores": ("scores", scores),
    "sizes": ("sizes", sizes),
}
