"""The page of `prepare eda`: one static HTML file, everything inside, no script and no network."""

import base64
import itertools
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from artifygan_jax.data.images import printable

Numbers = dict[str, Any]

_STYLE = """
:root { --ink: #1d2733; --grey: #5c6773; --rule: #dfe4ea; --blue: #1f5f99; --pale: #eef3f8 }
* { box-sizing: border-box }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 68rem; color: var(--ink); background: #fff;
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif }
h1 { font-size: clamp(1.6rem, 5vw, 2.3rem); line-height: 1.15; margin: 0 0 .4rem }
h2 { font-size: 1.3rem; margin: 3rem 0 .5rem }
p { max-width: 46rem; margin: .4rem 0 } .note { color: var(--grey); font-size: .92rem }
dl.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .7rem;
  margin: 1.4rem 0 }
.tiles div { background: var(--pale); border-radius: .5rem; padding: .7rem .9rem }
dt { color: var(--grey); font-size: .88rem } dd { margin: 0; font-size: 1.45rem; font-weight: 650 }
figure { margin: 1rem 0; overflow-x: auto } img { display: block; width: 100%; min-width: 40rem; height: auto;
  border: 1px solid var(--rule) }
.scroll { overflow-x: auto } table { border-collapse: collapse; width: 100%; margin: .8rem 0;
  font-variant-numeric: tabular-nums }
th, td { padding: .22rem .6rem .22rem 0; text-align: right; border-bottom: 1px solid var(--rule) }
th { color: var(--grey); font-weight: 500; font-size: .88rem; vertical-align: bottom }
.text { text-align: left; overflow-wrap: anywhere }
td.bar { width: 34%; padding-left: .4rem } td.bar i { display: block; height: .8rem; background: var(--blue);
  print-color-adjust: exact; -webkit-print-color-adjust: exact }
@media (max-width: 40rem) { td.bar { width: 22% } }
@media print { body { max-width: none; padding: 0; font-size: 10pt } figure, tr { break-inside: avoid }
  img { min-width: 0 } h2 { break-after: avoid } .scroll { overflow: visible } }
"""

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(numbers: Numbers, charts: Mapping[str, bytes]) -> str:
    """The HTML of `numbers` (what `eda.json` holds) with the PNG `charts` by file name inside.

    Without charts their numbers stand in tables all the same. Text from the data is escaped, and the
    page's own policy forbids scripts and loading.
    """
    celeba = numbers["kind"] == "celeba"
    body = _celeba(numbers, charts) if celeba else _safebooru(numbers, charts)
    title = "What is in CelebA" if celeba else f"What is in {_text(numbers['files'][0])}"
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        f"<title>{title}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{title}</h1>",
        f'<p class="note">Source: {_text(numbers["source"])}.</p>',
        *body,
        *_files(numbers),
        f"<h2>Terms and limits</h2>{''.join(f'<p>{_text(line)}</p>' for line in numbers['terms'])}",
        "</body></html>\n",
    ]
    return "\n".join(parts)


def _text(value: object) -> str:
    return escape(printable(str(value)))


def _cell(value: object) -> str:
    """A number with its commas, a share with two decimals, or text of at most 100 characters."""
    if isinstance(value, float):
        return f"{value:,.2f}".replace("-", "−")
    return f"{value:,}" if isinstance(value, int) else _text(str(value)[:100])


def _tiles(tiles: Iterable[tuple[str, object]]) -> str:
    items = (f"<div><dt>{_text(k)}</dt><dd>{_cell(v)}</dd></div>" for k, v in tiles)
    return f'<dl class="tiles">{"".join(items)}</dl>'


def _figure(name: str, alt: str, charts: Mapping[str, bytes]) -> str:
    """The chart inside the page, linked to its file beside it; nothing where it was not drawn."""
    if name not in charts:
        return ""
    data = base64.b64encode(charts[name]).decode()
    image = (
        f'<img src="data:image/png;base64,{data}" alt="{escape(alt)}" width="1920" height="1080">'
    )
    return f'<figure><a href="{name}">{image}</a></figure>'


def _table(
    head: Sequence[str], rows: Sequence[Sequence[object]], bars: Sequence[float] = ()
) -> str:
    """A table, text to the left and numbers to the right; `bars` are drawn from zero in a last column."""
    words = [isinstance(cell, str) for cell in (rows[0] if rows else head)]
    lines = [_row("th", map(_cell, head), words)]
    for row, share in itertools.zip_longest(rows, bars):
        bar = (
            f'<td class="bar"><i style="width:{100 * share / max(bars):.1f}%"></i></td>'
            if share
            else ""
        )
        lines.append(_row("td", map(_cell, row), words) + bar)
    return (
        f'<div class="scroll"><table>{"".join(f"<tr>{line}</tr>" for line in lines)}</table></div>'
    )


def _row(tag: str, cells: Iterable[str], words: Sequence[bool]) -> str:
    kinds = (' class="text"' if word else "" for word in words)
    return "".join(f"<{tag}{kind}>{cell}</{tag}>" for kind, cell in zip(kinds, cells))


def _files(numbers: Numbers) -> list[str]:
    parts = ["<h2>Files</h2>", f"<p>There: {_text(', '.join(numbers['files']))}.</p>"]
    if numbers.get("not_available"):
        parts.append(f"<p>Not available: {_text(', '.join(numbers['not_available']))}.</p>")
    return parts


# ----------------------------------------------------------------------------------------- CelebA


def _celeba(numbers: Numbers, charts: Mapping[str, bytes]) -> list[str]:
    identities = numbers.get("identities")
    tiles = [
        ("pictures listed", numbers["pictures_listed"]),
        ("attributes", len(numbers["attributes"])),
    ]
    if identities:
        tiles += [
            ("people", identities["count"]),
            ("pictures each, mean", identities["pictures_each"]["mean"]),
        ]
    if numbers.get("pictures"):
        tiles.append(("pictures here", numbers["pictures"]["present"]))
    parts = [_tiles(tiles), "<h2>Attributes</h2>"]
    parts += [
        _figure(
            "attributes.png",
            "Bar chart of the attributes' shares; the table has the numbers",
            charts,
        ),
        _attribute_table(numbers),
        *_correlations(numbers, charts),
    ]
    if identities:
        parts += ["<h2>People</h2>", *_people(identities, charts)]
    if numbers.get("splits"):
        parts += ["<h2>Splits</h2>", *_splits(numbers["splits"], charts)]
    if numbers.get("pictures"):
        parts += ["<h2>Pictures</h2>", *_pictures(numbers, charts)]
    return parts


def _attribute_table(numbers: Numbers) -> str:
    ranked = sorted(numbers["attributes"].items(), key=lambda item: -item[1])
    rows = [(name, numbers["attribute_counts"][name], share) for name, share in ranked]
    return _table(["attribute", "pictures", "%"], rows, [share for _, share in ranked])


def _correlations(numbers: Numbers, charts: Mapping[str, bytes]) -> list[str]:
    table = numbers["correlations"]
    return [
        "<h2>What goes together</h2>",
        "<p>Phi is the correlation of two yes/no marks: 1 where they are always the same, 0 independent,"
        " −1 always opposite. All pairs are in <code>eda.json</code>.</p>",
        _figure("correlations.png", "Heat map of phi; the table lists the strongest pairs", charts),
        _table(
            ["attribute", "and", "phi"],
            [(pair["a"], pair["b"], pair["phi"]) for pair in table["strongest"]],
        ),
    ]


def _people(identities: Numbers, charts: Mapping[str, bytes]) -> list[str]:
    each = identities["pictures_each"]
    return [
        _figure("identities.png", "Histogram of pictures per person", charts),
        _table(
            ["people", "mean pictures each", "median", "fewest", "most"],
            [(identities["count"], each["mean"], each["median"], each["min"], each["max"])],
        ),
    ]


def _splits(splits: Numbers, charts: Mapping[str, bytes]) -> list[str]:
    sizes = [(name, part["pictures"], part["percent"]) for name, part in splits.items()]
    names = next(iter(splits.values()))["attributes"]
    shares = [(name, *(part["attributes"][name] for part in splits.values())) for name in names]
    return [
        _figure("splits.png", "Sizes of the splits, and the attributes that differ most", charts),
        _table(["split", "pictures", "%"], sizes, [part["percent"] for part in splits.values()]),
        _table(["attribute", *(f"% of {split}" for split in splits)], shares),
    ]


def _pictures(numbers: Numbers, charts: Mapping[str, bytes]) -> list[str]:
    pictures = numbers["pictures"]
    rows = [
        (name, *(part[k] for k in ("mean", "p5", "p50", "p95")))
        for name in ("brightness", "contrast")
        if (part := numbers[name])
    ]
    sizes = ", ".join(f"{size} ({n:,})" for size, n in pictures["sizes"].items())
    return [
        f"<p>Measured: {pictures['measured']:,} pictures ({_text(pictures['which'])})."
        f" Unreadable: {len(pictures['failures'])}. Sizes: {_text(sizes)}.</p>",
        _figure("brightness.png", "Histograms of brightness and contrast", charts),
        _table(["luma, 0 to 255", "mean", "5 %", "median", "95 %"], rows),
        '<p class="note">Brightness: mean luma (BT.601) of a picture. Contrast: its standard deviation.</p>',
    ]


# -------------------------------------------------------------------------------------- Safebooru


def _safebooru(numbers: Numbers, charts: Mapping[str, bytes]) -> list[str]:
    malformed, deck = numbers["malformed"], numbers["deck_tags"]
    tiles = [
        ("posts", numbers["posts"]),
        ("tags", numbers["distinct_tags"]),
        ("tags per post", numbers["tags_per_post"]),
        ("deleted or banned", numbers["deleted"]),
        ("malformed rows", malformed["rows"]),
    ]
    parts = [
        _tiles(tiles),
        "<h2>Tags</h2>",
        _figure(
            "tags.png", "Bar chart of the most frequent tags; the table has the numbers", charts
        ),
        _counted("tag", numbers.get("tags", {}), numbers["posts"]),
        "<h2>The deck's five</h2>",
        _figure("deck_tags.png", "Bar chart of the five; the table has the numbers", charts),
        _table(
            ["attribute", "tag", "posts", "%"],
            [(name, part["tag"], part["posts"], part["percent"]) for name, part in deck.items()],
            [part["posts"] for part in deck.values()],
        ),
        "<h2>Ratings</h2>",
        f"<p>{_text(numbers['ratings_mean'])}.</p>",
        _counted("rating", numbers["ratings"], numbers["posts"]),
    ]
    if numbers.get("sizes"):
        parts += ["<h2>Sizes</h2>", *_sizes(numbers["sizes"], charts)]
    if numbers.get("years"):
        parts += ["<h2>Years</h2>", _figure("years.png", "Posts by year", charts)]
        parts.append(_counted("year", numbers["years"], numbers["posts"]))
    if numbers.get("scores"):
        parts += ["<h2>Scores</h2>", _figure("scores.png", "Posts by score", charts)]
        most = sorted(numbers["scores"].items(), key=lambda item: -item[1])[:20]
        parts.append(_counted("score (20 most frequent)", dict(most), numbers["posts"]))
    if malformed["rows"]:
        parts += [
            "<h2>Malformed rows</h2>",
            _table(["the first of them"], [[line] for line in malformed["first"]]),
        ]
    return parts


def _counted(what: str, counts: Mapping[str, int], whole: int) -> str:
    rows = [(name, n, 100 * n / whole) for name, n in counts.items()]
    return _table([what, "posts", "%"], rows, list(counts.values()))


def _sizes(sizes: Numbers, charts: Mapping[str, bytes]) -> list[str]:
    rows = [
        (f"under {s} px", sizes[f"short_side_under_{s}"], sizes[f"short_side_under_{s}_percent"])
        for s in (256, 512)
    ]
    return [
        f"<p>Sizes of {_text(sizes['of'])}; the median short side is {sizes['short_side_median']:,} px.</p>",
        _figure("sizes.png", "Width and height of the pictures", charts),
        _table(["short side", "posts", "%"], rows),
    ]
