"""What is counted in CelebA and Safebooru: exact on small sets, and the deck's table on the real one."""

import io
import json
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from artifygan_jax.data.celeba.contents import ATTRIBUTES
from artifygan_jax.data.eda import celeba, charts, explore, safebooru
from artifygan_jax.data.eda.counting import percent, spread
from artifygan_jax.data.listing import list_pictures
from artifygan_jax.errors import UserError
from tests.conftest import shared

# "Celeb a Dataset EDA" of the slide deck: % of the 202,599 pictures, rounded to two decimals.
DECK = {
    "Bags_Under_Eyes": 20.46,
    "Bald": 2.24,
    "Bangs": 15.16,
    "Big_Lips": 24.08,
    "Big_Nose": 23.45,
    "Black_Hair": 23.93,
    "Blond_Hair": 14.80,
    "Blurry": 5.09,
    "Brown_Hair": 20.52,
    "Bushy_Eyebrows": 14.22,
    "Chubby": 5.76,
    "Double_Chin": 4.67,
    "Eyeglasses": 6.51,
    "Goatee": 6.28,
    "Gray_Hair": 4.19,
    "Heavy_Makeup": 38.69,
    "High_Cheekbones": 45.50,
    "Male": 41.68,
    "Mouth_Slightly_Open": 48.34,
    "Mustache": 4.15,
    "Narrow_Eyes": 11.51,
    "No_Beard": 83.49,
    "Oval_Face": 28.41,
    "Pale_Skin": 4.29,
    "Pointy_Nose": 27.74,
    "Receding_Hairline": 7.98,
    "Rosy_Cheeks": 6.57,
    "Sideburns": 5.65,
    "Smiling": 48.21,
    "Straight_Hair": 20.84,
    "Wavy_Hair": 31.96,
    "Wearing_Earrings": 18.89,
}


def names(count: int) -> list[str]:
    return [f"{i:06}.jpg" for i in range(1, count + 1)]


def attribute_table(values: np.ndarray) -> str:
    rows = (
        f"{name} " + " ".join(f"{2 * int(v) - 1:2}" for v in row)
        for name, row in zip(names(len(values)), values)
    )
    return "\r\n".join([str(len(values)), " ".join(ATTRIBUTES) + " ", *rows]) + "\r\n"


def marks(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 40)) < np.linspace(0.1, 0.9, 40)


def jpeg(grey: int, size: tuple[int, int] = (178, 218)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (grey,) * 3).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def drawn(monkeypatch):
    """No charts but where a test asks for them: they take most of the time, `test_charts.py` has them."""
    draw = charts.draw
    monkeypatch.setattr(charts, "draw", lambda numbers: {})
    return lambda: monkeypatch.setattr(charts, "draw", draw)


@pytest.fixture
def source(tmp_path):
    """Nine pictures, the tables that this project's shared folder has too, four of the pictures."""
    folder = tmp_path / "celeba"
    folder.mkdir()
    values = marks(9)
    with zipfile.ZipFile(folder / "Anno.zip", "w") as file:
        file.writestr("Anno/list_attr_celeba.txt", attribute_table(values))
        rows = zip(names(9), (5, 5, 7, 5, 8, 8, 2, 2, 2))
        file.writestr("Anno/identity_CelebA.txt", "".join(f"{n} {i}\r\n" for n, i in rows))
    rows = zip(names(9), (0, 0, 0, 0, 0, 1, 2, 2, 2))
    (folder / "list_eval_partition.txt").write_text("".join(f"{n} {p}\n" for n, p in rows))
    with zipfile.ZipFile(folder / "img_align_celeba.zip", "w") as file:
        for name, grey in zip(names(4), (0, 100, 100, 200)):
            file.writestr(f"img_align_celeba/{name}", jpeg(grey))
    return folder


def read(output) -> dict:
    return json.loads((output / "eda.json").read_text())


# ----------------------------------------------------------------------------------------- CelebA


def test_the_real_percentages_are_the_decks_to_two_decimals():
    counted = celeba.numbers(
        celeba.find(shared("data", "celeba", "Anno.zip")), say=lambda line: None
    )
    assert {name: counted["attributes"][name] for name in DECK} == DECK
    assert len(counted["attributes"]) == 40 and counted["pictures_listed"] == 202_599
    assert counted["attribute_counts"]["Smiling"] == 97_669
    assert all(counted["official"].values())
    assert counted["identities"]["count"] == 10_177
    assert counted["identities"]["pictures_each"]["max"] == 35
    strongest = counted["correlations"]["strongest"][0]
    assert (strongest["a"], strongest["b"]) == ("Heavy_Makeup", "Wearing_Lipstick")


def test_everything_about_a_small_celeba_is_written(source, tmp_path):
    summary = explore(source, tmp_path / "out")
    counted, values = read(tmp_path / "out"), marks(9)
    assert counted["kind"] == "celeba"
    for i, name in enumerate(ATTRIBUTES):
        assert counted["attribute_counts"][name] == values[:, i].sum()
        assert counted["attributes"][name] == round(100 * values[:, i].mean(), 2)
    assert counted["identities"]["count"] == 4
    assert counted["identities"]["persons_by_pictures"] == {"1": 1, "2": 1, "3": 2}
    assert counted["identities"]["pictures_each"] == {
        "mean": 2.25,
        "median": 2.5,
        "min": 1,
        "max": 3,
    }
    assert {s: p["pictures"] for s, p in counted["splits"].items()} == {
        "train": 5,
        "validation": 1,
        "test": 3,
    }
    train = counted["splits"]["train"]["attributes"]["Young"]
    assert train == round(100 * values[:5, ATTRIBUTES.index("Young")].mean(), 2)
    assert counted["pictures"]["sizes"] == {"178x218": 4}
    assert counted["brightness"]["mean"] == 100 and counted["contrast"]["mean"] == 0
    assert summary["pictures_listed"] == 9 and summary["failed"] == 0
    assert {"eda.json", "index.html"} <= set(summary["written"])
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == summary["written"]


def test_what_is_missing_is_said_and_left_out(tmp_path):
    (tmp_path / "list_attr_celeba.txt").write_text(attribute_table(marks(5)))
    said = []
    summary = explore(tmp_path, tmp_path / "out", say=said.append)
    counted = read(tmp_path / "out")
    assert not {"identities", "splits", "pictures"} & set(counted)
    assert "list_landmarks_align_celeba.txt" in counted["not_available"]
    assert "not available: list_landmarks_align_celeba.txt" in said
    assert summary["not_available"] == counted["not_available"]
    assert "Not available: img_align_celeba.zip" in (tmp_path / "out" / "index.html").read_text()


def test_a_table_that_is_not_the_official_one_is_said(source, tmp_path):
    said = []
    explore(source, tmp_path / "out", say=said.append)
    assert any("list_attr_celeba.txt: not the official file" in line for line in said)
    assert read(tmp_path / "out")["official"]["list_attr_celeba.txt"] is False


def test_a_zip_of_tables_is_a_source(source, tmp_path):
    summary = explore(source / "Anno.zip", tmp_path / "out")
    assert summary["identities"] == 4 and summary["splits"] == {}


def test_phi_is_pearsons_correlation_and_null_where_nothing_varies():
    values = marks(200)
    values[:, 3] = True
    table = celeba.phi(values)
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(table, np.corrcoef(values.T), atol=1e-12)
    written = celeba.correlation_numbers(ATTRIBUTES, values)
    row = written["phi"][written["order"].index(ATTRIBUTES[3])]
    assert row == [None] * 40
    json.dumps(written, allow_nan=False)


def test_the_strongest_pairs_come_first_whatever_their_sign():
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 500)) < 0.5
    c = a ^ (rng.random(500) < 0.1)  # nearly a
    values = np.stack([a, b, c, ~a], 1)
    pairs = celeba.correlation_numbers("abcd", values)["strongest"]
    assert (pairs[0]["a"], pairs[0]["b"], pairs[0]["phi"]) == ("a", "d", -1)
    strengths = [abs(pair["phi"]) for pair in pairs]
    assert strengths == sorted(strengths, reverse=True) and len(pairs) == 6


def test_the_order_puts_attributes_that_go_together_side_by_side():
    rng = np.random.default_rng(1)
    groups = rng.permutation(np.repeat([0, 1, 2], 5))
    causes = rng.random((2000, 3)) < 0.5
    noise = rng.random((2000, 15)) < 0.15
    order = celeba.angular_order(celeba.phi(causes[:, groups] ^ noise))
    assert sorted(order) == list(range(15))
    assert np.count_nonzero(np.diff(groups[order])) == 2


def test_a_picture_without_a_split_is_in_none(source, tmp_path):
    path = source / "list_eval_partition.txt"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-2]))
    explore(source, tmp_path / "out")
    sizes = {s: p["pictures"] for s, p in read(tmp_path / "out")["splits"].items()}
    assert sizes == {"train": 5, "validation": 1, "test": 1}


def test_brightness_is_rec_601_luma(tmp_path):
    Image.new("RGB", (8, 6), (255, 0, 0)).save(tmp_path / "red.png")
    half = np.zeros((4, 4, 3), np.uint8)
    half[:2] = 200
    Image.fromarray(half).save(tmp_path / "two.png")
    counted = celeba.picture_numbers(list_pictures(tmp_path), say=lambda line: None)
    assert counted["brightness"]["mean"] == pytest.approx((0.299 * 255 + 100) / 2, abs=0.01)
    assert counted["contrast"]["mean"] == pytest.approx(50, abs=0.01)
    assert counted["pictures"]["sizes"] == {"8x6": 1, "4x4": 1}
    assert sum(counted["brightness"]["histogram"]) == 2


def test_a_broken_picture_is_named_and_the_others_are_measured(source, tmp_path):
    with zipfile.ZipFile(source / "img_align_celeba.zip", "a") as file:
        file.writestr("img_align_celeba/000005.jpg", jpeg(9)[:400])
    summary = explore(source, tmp_path / "out")
    assert summary["failed"] == 1
    assert summary["failures"][0]["input"] == "000005.jpg" and summary["failures"][0]["reason"]
    assert read(tmp_path / "out")["pictures"]["measured"] == 4


def test_only_broken_pictures_leave_the_rest_standing(source, tmp_path):
    with zipfile.ZipFile(source / "img_align_celeba.zip", "w") as file:
        file.writestr("img_align_celeba/000001.jpg", b"no picture")
    summary = explore(source, tmp_path / "out")
    assert summary["failed"] == 1 and read(tmp_path / "out")["brightness"] == {}


def test_many_pictures_are_sampled_evenly_and_it_is_said(source, monkeypatch):
    monkeypatch.setattr(celeba, "SAMPLE", 2)
    entries = list_pictures(source / "img_align_celeba.zip")
    counted = celeba.picture_numbers(entries, say=lambda line: None)
    assert counted["pictures"]["measured"] == 2
    assert counted["pictures"]["which"] == "one in 2 of 4, by name"
    assert counted["brightness"]["mean"] == 50  # of 0 and 100, the first and the third


def test_a_damaged_table_is_named_with_its_line(source, tmp_path):
    (source / "list_eval_partition.txt").write_text("000001.jpg 0\n000002.jpg 7\n")
    with pytest.raises(UserError, match=r"list_eval_partition.txt, line 2: 7 is none of"):
        explore(source, tmp_path / "out")
    assert not (tmp_path / "out" / "eda.json").exists()


# -------------------------------------------------------------------------------------- Safebooru

HEADER = "id,created_at,rating,score,sample_url,sample_width,sample_height,preview_url,tags"
ROWS = (
    '1,1262304000,s,3,//x/1.jpg,850,1200,//x/p1.jpg,"1girl smile yellow_eyes"',  # 2010-01-01 UTC
    '2,1262303999,s,-1,//x/2.jpg,400,300,//x/p2.jpg,"1girl red_hair"',  # a second earlier
    '3,1293840000,q,0,//x/3.jpg,200,600,//x/p3.jpg,"smile"',
    "not,a,row",
    '4,1293840000,s,0,//x/4.jpg,600,512,//x/p4.jpg,"1girl <b> $x$"',
)


@pytest.fixture
def posts(tmp_path):
    folder = tmp_path / "posts"
    folder.mkdir()
    (folder / "all_data.csv").write_text("\n".join([HEADER, *ROWS]) + "\n")
    return folder


def test_everything_about_a_few_posts_is_written(posts, tmp_path):
    said = []
    summary = explore(posts, tmp_path / "out", say=said.append)
    counted = read(tmp_path / "out")
    assert counted["kind"] == "safebooru" and counted["posts"] == 4
    assert list(counted["tags"].items())[:2] == [("1girl", 3), ("smile", 2)]
    assert counted["distinct_tags"] == 6 and counted["tags_per_post"] == 2.25
    assert counted["deck_tags"]["golden eyes"] == {"tag": "yellow_eyes", "posts": 1, "percent": 25}
    assert counted["deck_tags"]["smile"]["posts"] == 2
    assert counted["deck_tags"]["blonde hair"]["posts"] == 0
    assert counted["ratings"] == {"s": 3, "q": 1}
    assert counted["years"] == {"2009": 1, "2010": 1, "2011": 2}
    assert counted["scores"] == {"-1": 1, "0": 2, "3": 1}
    assert counted["malformed"]["rows"] == 1 and "line 5" in counted["malformed"]["first"][0]
    assert summary["posts"] == 4 and summary["malformed"] == 1
    assert any("Kaggle" in line for line in said)


def test_the_share_of_small_pictures_goes_by_the_short_side(posts, tmp_path):
    explore(posts, tmp_path / "out")
    sizes = read(tmp_path / "out")["sizes"]
    assert sizes["short_side_under_256"] == 1 and sizes["short_side_under_256_percent"] == 25
    assert sizes["short_side_under_512"] == 2  # 512 itself is not under 512
    assert sizes["short_side_median"] == 300
    assert sum(n for _, _, n in sizes["cells"]) == 4
    assert [36, 36, 1] in sizes["cells"]  # 600 x 512: 2^(36/4) = 512


def test_the_real_posts_are_counted(tmp_path):
    summary = explore(shared("data", "safebooru"), tmp_path / "out")
    counted = read(tmp_path / "out")
    assert summary["posts"] == 73 and summary["malformed"] == 0
    assert counted["ratings"] == {"s": 73} and "s sensitive" in counted["ratings_mean"]
    assert counted["deleted"] == 6
    raw = json.loads((shared("data", "safebooru") / "posts.json").read_text())
    for part in counted["deck_tags"].values():
        assert part["posts"] == sum(part["tag"] in post["tag_string"] for post in raw)


def test_odd_metadata_stays_bounded(tmp_path):
    """Sizes, scores and times that no booru has."""
    post = {"tag_string": "a a b", "large_file_url": "", "rating": "s"}
    odd = {"image_width": 10**30, "image_height": 3, "score": -(10**30), "created_at": 10**30}
    posts = [{**post, "id": 1, **odd}, {**post, "id": 2, "created_at": -5, "tag_string": "\ud800"}]
    path = tmp_path / "odd.json"
    path.write_text(json.dumps(posts))
    counted = safebooru.numbers(path, say=lambda line: None)
    assert counted["tags"]["a"] == 1  # a post counts once for a tag
    assert counted["scores"] == {str(-(2**16)): 1}
    assert counted["sizes"]["cells"] == [[64, 6, 1]] and "years" not in counted
    explore(path, tmp_path / "out")  # the lone surrogate is written, escaped


def test_a_file_without_a_readable_post_is_refused(tmp_path):
    path = tmp_path / "all_data.csv"
    path.write_text(HEADER + "\nnot,a,row\n")
    with pytest.raises(UserError, match="no readable post"):
        explore(path, tmp_path / "out")


# ------------------------------------------------------------------------------------ any of both


def test_a_source_that_is_neither_is_refused_before_anything_is_written(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"(?s)list_attr_celeba.txt.*all_data.csv") as error:
        explore(tmp_path / "empty", tmp_path / "out")
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="no such file or folder"):
        explore(tmp_path / "nowhere", tmp_path / "out")


def test_the_source_is_no_output(source):
    before = sorted(source.iterdir())
    with pytest.raises(UserError, match="give another --output"):
        explore(source, source / ".." / source.name)
    assert sorted(source.iterdir()) == before


def test_without_matplotlib_all_but_the_charts_is_written(source, tmp_path, monkeypatch, drawn):
    drawn()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    said = []
    summary = explore(source, tmp_path / "out", say=said.append)
    assert summary["written"] == ["eda.json", "index.html"]
    assert "artifygan_jax[report]" in summary["charts_left_out"]
    assert summary["charts_left_out"] in said
    assert "Smiling" in (tmp_path / "out" / "index.html").read_text()


def test_a_chart_of_an_older_run_does_not_stay(source, tmp_path, monkeypatch):
    monkeypatch.setattr(charts, "draw", lambda numbers: {"brightness.png": b"png"})
    explore(source, tmp_path / "out")
    assert (tmp_path / "out" / "brightness.png").read_bytes() == b"png"
    monkeypatch.setattr(charts, "draw", lambda numbers: {})
    (tmp_path / "out" / "mine.png").write_bytes(b"")
    explore(source / "Anno.zip", tmp_path / "out")
    assert not (tmp_path / "out" / "brightness.png").exists()
    assert (tmp_path / "out" / "mine.png").exists()


def test_shares_are_rounded_and_nothing_of_nothing_is_nothing():
    assert percent(41_446, 202_599) == 20.46 and percent(0, 0) == 0
    assert spread([], bins=4, end=8) == {}
    counted = spread([1.0, 3.0, 7.9], bins=4, end=8)
    assert counted["histogram"] == [1, 1, 0, 1] and counted["bin_width"] == 2
    assert counted["mean"] == 3.97 and counted["p50"] == 3
