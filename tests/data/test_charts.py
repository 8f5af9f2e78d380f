"""Charts that are honest and fit their slide, and a page that needs nothing but itself."""

import base64
import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from artifygan_jax.data.celeba.contents import ATTRIBUTES
from artifygan_jax.data.eda import celeba, charts, drawing
from artifygan_jax.data.eda.counting import spread
from artifygan_jax.data.eda.page import page
from artifygan_jax.data.eda.safebooru import Counts
from artifygan_jax.data.safebooru.posts import Post

matplotlib = pytest.importorskip("matplotlib")
pytest.importorskip("matplotlib.backends.backend_agg")

ODD = '<script>alert("1")</script>'


@pytest.fixture(scope="module")
def faces() -> dict:
    """Numbers as `eda.json` has them for CelebA with all its files."""
    rng = np.random.default_rng(0)
    values = rng.random((300, 40)) < np.linspace(0.01, 0.9, 40)
    masks = {
        name: np.arange(300) % 3 == i for i, name in enumerate(("train", "validation", "test"))
    }
    luma = rng.normal(110, 30, 50).clip(0, 255).tolist()
    numbers = {
        "kind": "celeba",
        "source": "CelebA",
        "files": ["list_attr_celeba.txt"],
        "not_available": ["list_bbox_celeba.txt"],
        "terms": ["Research only."],
        "pictures_listed": 300,
        **celeba.attribute_numbers(ATTRIBUTES, values),
        "correlations": celeba.correlation_numbers(ATTRIBUTES, values),
        "identities": celeba.identity_numbers(rng.integers(0, 40, 300)),
        "splits": celeba.split_numbers(ATTRIBUTES, values, masks),
        "pictures": {
            "present": 50,
            "measured": 50,
            "which": "all",
            "sizes": {"8x8": 50},
            "failures": [],
        },
        "brightness": spread(luma, bins=32, end=256),
        "contrast": spread(luma, bins=32, end=256),
    }
    return json.loads(json.dumps(numbers))


@pytest.fixture(scope="module")
def posts() -> dict:
    """Numbers of posts whose tags are as odd as a stranger can make them."""
    counts = Counts()
    odd = ("1girl", "$x_1^$", "日本語", "a\nb", "long_" * 40, ODD, "^_^")
    for i in range(60):
        counts.add(
            Post(
                id=i,
                source="danbooru",
                rating="g" if i % 2 else ODD,
                tags=odd[: i % 7 + 1],
                width=100 + 20 * i,
                height=300 + 10 * i,
                created=1_300_000_000 + i * 10_000_000,
                score=i * i - 5,
            )
        )
    numbers = {
        "kind": "safebooru",
        "source": "metadata",
        "files": ["a&b.json"],
        "terms": ["Tags are the work of users."],
        "malformed": {"rows": 1, "first": [f"line 3: {ODD}"]},
        "ratings_mean": "g general",
        **counts.numbers(),
    }
    numbers["sizes"]["of"] = "the original pictures"
    return json.loads(json.dumps(numbers))


def figure_of(chart, numbers):
    figure = matplotlib.figure.Figure(figsize=drawing.SIZE, dpi=drawing.DPI)
    chart(figure, numbers)
    return figure


def widths(axes) -> list[float]:
    return [bar.get_width() for bar in axes.patches]


# ----------------------------------------------------------------------------------------- charts


@pytest.mark.filterwarnings("error")
def test_every_chart_is_a_16_to_9_png_and_drawn_from_the_json_alone(faces, posts):
    drawn = charts.draw(faces) | charts.draw(posts)
    assert set(drawn) == {f"{name}.png" for name in charts.CHARTS}
    for data in drawn.values():
        with Image.open(io.BytesIO(data)) as image:
            assert image.format == "PNG" and image.size == (1920, 1080)
            assert (
                image.convert("L").getextrema()[0] < 60 and image.getpixel((2, 2))[:3] == (255,) * 3
            )


def test_what_was_not_counted_is_not_drawn(faces):
    left = {k: v for k, v in faces.items() if k not in ("identities", "splits", "brightness")}
    left["brightness"] = {}
    assert set(charts.draw(left)) == {"attributes.png", "correlations.png"}


def test_the_bars_are_the_percentages_sorted_from_zero_on_one_scale(faces):
    figure = figure_of(charts.attributes, faces)
    left, right = figure.axes
    shown = widths(left) + widths(right)
    assert shown == sorted(faces["attributes"].values(), reverse=True) and len(shown) == 40
    assert left.get_xlim() == right.get_xlim() and left.get_xlim()[0] == 0
    assert left.get_position().width == pytest.approx(right.get_position().width)
    names = [text.get_text().replace(" ", "_") for text in left.get_yticklabels()]
    assert names == sorted(faces["attributes"], key=lambda n: -faces["attributes"][n])[:20]
    assert f"{shown[0]:.2f}" in [text.get_text() for text in left.texts]


def test_the_heat_map_is_the_table_with_white_for_independence(faces):
    axes = figure_of(charts.correlations, faces).axes[0]
    image = axes.images[0]
    np.testing.assert_allclose(image.get_array(), np.array(faces["correlations"]["phi"], float))
    assert image.get_clim() == (-1, 1)
    labels = [text.get_text().replace(" ", "_") for text in axes.get_yticklabels()]
    assert labels == faces["correlations"]["order"]


def test_histograms_hold_every_post_and_start_at_zero(posts):
    for chart in (charts.scores, charts.years):
        axes = figure_of(chart, posts).axes[0]
        assert sum(bar.get_height() for bar in axes.patches) == 60
        assert axes.get_ylim()[0] == 0


@pytest.mark.filterwarnings("ignore:Glyph")
def test_nothing_leaves_the_slide(faces, posts):
    """Every text of every chart, with tags of 200 letters, lies inside of the picture."""
    for key, chart in charts.CHARTS.values():
        numbers = faces if key in faces else posts
        figure = figure_of(chart, numbers)
        matplotlib.backends.backend_agg.FigureCanvasAgg(figure).draw()
        for text in figure.texts:
            box = text.get_window_extent()
            assert 0 <= box.x0 and box.x1 <= 1920, text.get_text()
        for axes in figure.axes:
            box = axes.get_tightbbox()
            assert 0 <= box.x0 and box.x1 <= 1920 and 0 <= box.y0 and box.y1 <= 1080, chart.__name__


def test_neither_pyplot_nor_a_display_is_touched():
    code = (
        "import sys; from artifygan_jax.data.eda import charts; assert 'matplotlib' not in sys.modules;"
        "charts.draw({'years': {'2010': 3}, 'source': 's'}); print('matplotlib.pyplot' in sys.modules,"
        " *sorted({'jax', 'torch', 'tensorflow', 'tensorflow_datasets'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.returncode) == ("False\n", 0), done.stderr


# ------------------------------------------------------------------------------------------- page


class Tags(HTMLParser):
    """What a page holds: tags with attributes, and the text of its cells."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


@pytest.mark.parametrize("which", ["faces", "posts"])
def test_the_page_needs_nothing_but_itself(which, request):
    numbers = request.getfixturevalue(which)
    drawn = {
        f"{name}.png": name.encode() for name, (key, _) in charts.CHARTS.items() if key in numbers
    }
    text = page(numbers, drawn)
    found = Tags(text)
    assert not re.search(r"(?i)https?:|url\(|@import", text)
    assert {tag for tag, _ in found.tags}.isdisjoint({"script", "link", "iframe", "object", "base"})
    assert not any(name.startswith("on") for _, attrs in found.tags for name in attrs)
    policy = next(a["content"] for t, a in found.tags if t == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'")
    images = [attrs["src"] for tag, attrs in found.tags if tag == "img"]
    inside = [base64.b64decode(src.removeprefix("data:image/png;base64,")) for src in images]
    assert sorted(inside) == sorted(drawn.values())
    assert {attrs["href"] for tag, attrs in found.tags if tag == "a"} == set(drawn)
    assert all(attrs["alt"] for tag, attrs in found.tags if tag == "img")
    assert any(attrs.get("name") == "viewport" for _, attrs in found.tags)
    assert all(line in found.text for line in numbers["terms"])


def test_the_page_has_every_attribute_with_and_without_charts(faces):
    found = Tags(page(faces, {}))
    assert "img" not in [tag for tag, _ in found.tags]
    for name, share in faces["attributes"].items():
        at = found.text.index(name)
        assert f"{share:.2f}" in found.text[at : at + 6]
    assert "Not available: list_bbox_celeba.txt." in found.text


def test_text_from_the_data_stays_text(posts):
    text = page(posts, {})
    assert ODD not in text and "&lt;script&gt;" in text
    assert "What is in a&amp;b.json" in text
    assert "long_" * 21 not in text  # cut


def test_a_bar_on_the_page_is_as_long_as_its_share(faces):
    found = Tags(page(faces, {}))
    bars = [float(a["style"][6:-1]) for tag, a in found.tags if tag == "i"]
    shares = sorted(faces["attributes"].values(), reverse=True)
    for bar, share in zip(bars, shares):
        assert bar == pytest.approx(100 * share / shares[0], abs=0.06)
