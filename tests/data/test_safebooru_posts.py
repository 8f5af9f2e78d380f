"""Safebooru: metadata of three kinds, and which posts are taken."""

import gzip
import json
import tracemalloc

import pytest

from artifygan_jax.data.safebooru import layouts, tags
from artifygan_jax.data.safebooru.posts import Post, find_metadata, open_metadata
from artifygan_jax.data.safebooru.select import Rules, Tally, refusal, select
from artifygan_jax.errors import UserError
from tests.conftest import shared
from tests.data.booru import DANBOORU, HEADER, ROW, SAFEBOORU, metadata

# ----------------------------------------------------------------------------------------- metadata


def test_a_kaggle_row_is_read_field_by_field(tmp_path):
    row = ROW.format('1girl ""x"" a,b :D')
    read = metadata(tmp_path, f"{HEADER}\n{row}\n")
    assert (read.kind, read.layout) == ("kaggle", "csv")
    assert list(read) == [
        Post(
            id=5, source="kaggle", rating="s", tags=("1girl", '"x"', "a,b", ":d"),
            url="//safebooru.org//samples/1/sample_ab.jpg", preview_url="//safebooru.org/t.jpg",
            width=850, height=600, created=1500000000, score=-3, extension="jpg",
        )
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        ROW.format("a b"),  # no header
        f"{HEADER}\r\n{ROW.format('a b')}\r\n",
        f"\ufeff{HEADER}\n{ROW.format('a b')}",  # no line end
        f"{HEADER}\n" + ",".join(f'"{f}"' for f in ROW.format("a b").replace('"', "").split(",")),
        f"{HEADER}\n" + ROW.format("a b").replace(",", ", "),
        # 9 names, 11 fields, as the author's code wrote it
        f"{HEADER}\n" + ROW.format("a b").replace("t.jpg,", "t.jpg,150,106,"),
        ROW.format("a b").replace("t.jpg,", "t.jpg,150,106,"),
        # other columns in another order go by their names
        'tags,rating,id,sample_url,md5\n"a b",s,5,//safebooru.org//samples/1/sample_ab.jpg,0',
    ],
)
def test_every_way_the_kaggle_file_may_be_written_gives_the_same_post(tmp_path, text):
    (post,) = metadata(tmp_path, text)
    assert (post.id, post.rating, post.tags) == (5, "s", ("a", "b"))
    assert post.url == "//safebooru.org//samples/1/sample_ab.jpg"


def test_malformed_rows_are_counted_with_their_lines_and_cost_no_other_row(tmp_path):
    rows = [HEADER, ROW.format("a"), "x", ROW.format("b")[:-1], "", "5x" + ROW.format("c")[1:]]
    rows += ["../7" + ROW.format("d")[1:], "\0\0", "9" * 2_000_000, ROW.format("e")]
    read = metadata(tmp_path, "\n".join(rows))
    assert [post.tags for post in read] == [("a",), ("e",)]
    assert read.malformed == 6
    lines = [line.partition(":")[0] for line in read.bad]
    assert lines == ["line 3", "line 4", "line 6", "line 7", "line 8", "line 9"]
    assert "id '5x' is no plain integer" in read.bad[2]
    list(read)
    assert read.malformed == 6  # of the latest pass, not of both


def test_a_large_file_is_read_as_a_stream(tmp_path, monkeypatch):
    monkeypatch.setattr(layouts, "MAX_RECORD", 20_000)
    read = metadata(tmp_path, "\n".join([HEADER, *[ROW.format("tag " * 100)] * 3000]))
    objects = metadata(tmp_path, json.dumps([SAFEBOORU | {"source": "x" * 200}] * 3000), "p.json")
    assert min(p.stat().st_size for p in tmp_path.iterdir()) > 1_400_000
    tracemalloc.start()
    assert sum(1 for _ in read) == sum(1 for _ in objects) == 3000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500_000


def test_safebooru_json_is_read(tmp_path):
    (post,) = metadata(tmp_path, json.dumps([SAFEBOORU]))
    assert post == Post(
        id=77, source="safebooru", rating="general", tags=("1girl", "smile", "don't", ":d"),
        url="https://safebooru.org/samples/592/sample_4a8e.jpg",
        full_url="https://safebooru.org/images/592/4a8e.png", width=400, height=600,
        created=1600000000, md5="0123456789abcdef0123456789abcdef", extension="jpg",
    )  # fmt: skip


def test_a_safebooru_post_without_a_sample_has_its_original(tmp_path):
    (post,) = metadata(tmp_path, json.dumps([SAFEBOORU | {"sample": False, "sample_width": 0}]))
    assert post.url == post.full_url == "https://safebooru.org/images/592/4a8e.png"
    assert (post.width, post.height, post.extension) == (800, 1200, "png")


def test_a_thumbnail_given_as_sample_is_not_taken_for_one(tmp_path):
    urls = dict(sample_url="//safebooru.org/t.jpg", preview_url="//safebooru.org/t.jpg")
    (post,) = metadata(tmp_path, json.dumps([SAFEBOORU | urls | {"sample": False}]))
    assert post.url == "https://safebooru.org/images/592/4a8e.png"


def test_danbooru_json_is_read(tmp_path):
    (post,) = metadata(tmp_path, json.dumps([DANBOORU]))
    assert post == Post(
        id=88, source="danbooru", rating="g", tags=("1girl", "yellow_eyes", "^_^"),
        url="https://cdn.donmai.us/sample/6b/7c/sample-6b7c.jpg",
        full_url="https://cdn.donmai.us/original/6b/7c/6b7c.jpg", width=520, height=613,
        created=1159579817, score=2, md5="6b7cfd682de80770b8514be779f7e4c2", extension="jpg",
    )  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"tag_string": ["a", "b", ""]},
        {"tag_string": "a  b"},
        {"tags": [{"id": "1", "name": "a"}, {"id": "2", "name": "b"}], "tag_string": ...},
        {"tag_string": ..., "tag_string_general": "a", "tag_string_meta": ["b"]},
        {"tag_string": "a b", "id": ..., "_id": "88"},
    ],
)
def test_the_dialects_of_danbooru_json_give_the_same_tags(tmp_path, change):
    record = {k: v for k, v in (DANBOORU | change).items() if v is not ...}
    (post,) = metadata(tmp_path, json.dumps([record]))
    assert (post.id, post.tags, post.source) == (88, ("a", "b"), "danbooru")


@pytest.mark.parametrize("record", [SAFEBOORU, DANBOORU])
def test_every_layout_of_json_gives_the_same_posts(tmp_path, record):
    records = [record | {"id": n} for n in range(1, 4)]
    texts = [
        json.dumps(records),
        json.dumps(records, indent=2),
        "\n".join(map(json.dumps, records)),
        json.dumps({"@attributes": {"count": 3}, "post": records}),
        json.dumps({"posts": records}, indent=1),
        "\ufeff \n" + json.dumps(records),
    ]
    for n, text in enumerate(texts):
        assert [post.id for post in metadata(tmp_path, text, f"{n}.json")] == [1, 2, 3]
    packed = metadata(tmp_path, gzip.compress(texts[2].encode()), "packed.jsonl.gz")
    assert [post.id for post in packed] == [1, 2, 3]
    (post,) = metadata(tmp_path, json.dumps(record, indent=1), "one.json")
    assert post.id == record["id"]


def test_lists_longer_than_the_window_lose_no_post(tmp_path, monkeypatch):
    monkeypatch.setattr(layouts, "MAX_RECORD", 600)
    records = [SAFEBOORU | {"id": n, "source": "x" * (n % 7)} for n in range(300)]
    assert [p.id for p in metadata(tmp_path, json.dumps(records))] == list(range(300))
    with pytest.raises(UserError, match="not JSON after post 1; cut off?"):
        list(metadata(tmp_path, json.dumps([SAFEBOORU, {"a": "x" * 5000}])))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty"),
        ("  \n", "is empty"),
        ("<!DOCTYPE html><html>", "metadata of no known source"),
        ("id;tags\n1;a", "metadata of no known source"),
        ("a,b,c,d,e,f,g,h,i", "metadata of no known source"),
        ("[]", "metadata of no known source"),
        ("[1, 2]", "metadata of no known source"),
        ('[{"id": 1, "name": "x"}]', "id, name is metadata of no known source"),
        ('[{"id": 1, "tags": "a", "rating": "s"}]', "no known source"),
        (json.dumps([SAFEBOORU | DANBOORU]), "of Safebooru's and of Danbooru's"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        (b"\x1f\x8b\x08\0\0\0", "cannot be read to its end"),
        (b"PK\3\4\0\0\0", "is a zip; unpack it"),
    ],
)
def test_metadata_of_no_or_two_sources_is_refused_in_one_line(tmp_path, content, words):
    with pytest.raises(UserError) as caught:
        metadata(tmp_path, content)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_cut_list_gives_its_posts_and_then_an_error(tmp_path):
    text = json.dumps([DANBOORU, DANBOORU | {"id": 89}, DANBOORU])
    read = metadata(tmp_path, text[:-80])
    posts = []
    with pytest.raises(UserError, match="not JSON after post 2; cut off?"):
        for post in read:
            posts.append(post.id)
    assert posts == [88, 89]


def test_a_record_of_the_other_source_is_malformed_not_misread(tmp_path):
    read = metadata(tmp_path, json.dumps([SAFEBOORU, DANBOORU | {"rating": "s"}, {"id": 3}, 4]))
    assert [post.id for post in read] == [77]
    assert read.bad[0] == "post 2: looks like danbooru, the file like safebooru"
    assert read.malformed == 3


@pytest.mark.parametrize(
    "bad", ["../1", "1/2", "-1", "1.5", " ", "", "٣", "1" * 30, None, True, 1.0, [1]]
)
def test_ids_that_are_no_plain_integers_are_malformed(tmp_path, bad):
    read = metadata(tmp_path, json.dumps([SAFEBOORU, SAFEBOORU | {"id": bad}]))
    assert [post.id for post in read] == [77]
    assert read.malformed == 1


def test_odd_values_are_unknown_ones(tmp_path):
    read = metadata(tmp_path, json.dumps([SAFEBOORU | {"tags": "a \ud800b", "created_at": 1e999}]))
    assert list(read)[0].tags == ("a", "?b") and list(read)[0].created is None
    change = {"width": "wide", "score": [], "change": "yesterday", "rating": None, "image": 7}
    (post,) = metadata(tmp_path, json.dumps([SAFEBOORU | change | {"sample": 0, "height": -5}]))
    assert (post.width, post.height, post.score, post.created) == (0, 0, None, None)
    assert (post.rating, post.url) == ("", "")


def test_the_metadata_file_of_a_folder_is_found(tmp_path):
    with pytest.raises(UserError, match=r"kaggle\.com/datasets/alamson/safebooru.*put it there"):
        find_metadata(tmp_path)
    with pytest.raises(UserError, match="no metadata here"):
        find_metadata(tmp_path / "absent")
    (tmp_path / "README.md").touch()
    (tmp_path / "all_data.csv").touch()
    assert find_metadata(tmp_path).name == "all_data.csv"
    (tmp_path / "posts.jsonl.gz").touch()
    with pytest.raises(UserError, match=r"several .*all_data.csv, posts.jsonl.gz"):
        find_metadata(tmp_path)


# -------------------------------------------------------------------------------------- what is taken


def post(**changes) -> Post:
    fields = dict(
        id=1, source="kaggle", rating="s", tags=("1girl",), url="//safebooru.org/a.jpg",
        width=800, height=600, extension="jpg",
    )  # fmt: skip
    return Post(**(fields | changes))


@pytest.mark.parametrize("source", ["kaggle", "safebooru", "danbooru", "elsewhere"])
@pytest.mark.parametrize(
    "rating", "s safe g general S q questionable e explicit sensitive unknown none".split() + [""]
)
def test_only_ratings_that_mean_safe_in_their_source_are_taken(source, rating):
    safe = {"g", "general"} | ({"s", "safe"} if source in ("kaggle", "safebooru") else set())
    taken = refusal(post(source=source, rating=rating), Rules()) is None
    assert taken == (rating in safe and source != "elsewhere")


def test_an_upper_case_rating_is_read_as_the_same_letter(tmp_path):
    (read,) = metadata(tmp_path, ROW.format("a").replace(",s,", ",S,"))
    assert refusal(read, Rules()) is None


def test_all_real_danbooru_posts_are_sensitive_and_refused():
    read = open_metadata(find_metadata(shared("data", "safebooru")))
    tally = Tally()
    assert list(select(read, Rules(), tally)) == []
    assert (read.kind, tally.read, read.malformed) == ("danbooru", 73, 0)
    assert tally.refused == {"rating": 73}
    posts = list(read)
    assert sum(p.deleted for p in posts) == 6
    assert sum("yellow_eyes" in p.tags for p in posts) == 28
    assert all(p.tags and p.url and p.created and p.md5 for p in posts)
    assert {":d", "^_^", "+_+", "6+girls"} <= {tag for p in posts for tag in p.tags}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"rating": ""}, "rating: none (allowed in kaggle metadata: g, general, s, safe)"),
        ({"rating": "q"}, "rating: q"),
        ({"deleted": True}, "deleted"),
        ({"banned": True}, "banned"),
        ({"tags": ("1girl", "comic")}, "tag: a comic or text: comic"),
        ({"tags": ("text-only_page",)}, "tag: a comic or text"),
        ({"tags": ("cosplay_photo",)}, "tag: a photo or real people"),
        ({"tags": ("photo_(medium)",)}, "tag: a photo or real people"),
        ({"tags": ("third-party_edit",)}, "tag: a third party's edit"),
        ({"tags": ("someone_(actor)",)}, "tag: real people: someone_(actor)"),
        ({"width": 99}, "size: 99x600, at least 100"),
        ({"url": ""}, "address: none"),
        ({"extension": "gif"}, "extension: gif (allowed: jpg, jpeg, png, webp)"),
        ({"extension": ""}, "extension: none"),
        ({"extension": "jpg/../../x"}, "extension"),
        ({"rating": "s\n" * 99}, "rating: 's\\ns"),
    ],
)
def test_refusals_have_a_reason(change, reason):
    got = refusal(post(**change), Rules(min_size=100, online=True))
    assert got is not None and got.startswith(reason)
    assert refusal(post(), Rules(min_size=100, online=True)) is None


def test_pictures_on_disk_need_no_address():
    assert refusal(post(url="", extension="", width=0, height=0), Rules(min_size=100)) is None


def test_posts_need_every_tag_asked_for_and_none_of_the_others():
    posts = [
        post(id=1, tags=("smile", "blonde_hair")),
        post(id=2, tags=("smile", "blonde_hair", "hat")),
        post(id=3, tags=("smile",)),
        post(id=4, tags=("smile", "blonde_hair"), rating="q"),
        post(id=1, tags=("smile", "blonde_hair")),
    ]
    tally, refused = Tally(), []
    rules = Rules(tags=("smile", "blonde_hair"), without=("hat",))
    taken = select(posts, rules, tally, lambda p, why: refused.append((p.id, why)))
    assert [p.id for p in taken] == [1]
    assert (tally.read, tally.unasked, tally.repeated, tally.accepted) == (5, 2, 1, 1)
    assert tally.refused == {"rating": 1} and refused[0][0] == 4
    assert tally.tags == {"smile": 1, "blonde_hair": 1}


@pytest.mark.parametrize(
    ("word", "tag"),
    [
        ("golden eyes", "yellow_eyes"),
        ("Golden_Eyes", "yellow_eyes"),
        ("brown eyes", "brown_eyes"),
        (" blonde  hair ", "blonde_hair"),
        ("red hair", "red_hair"),
        ("smile", "smile"),
        ("yellow_eyes", "yellow_eyes"),
        (":D", ":d"),
        ("^_^", "^_^"),
        ("photo (medium)", "photo_(medium)"),
    ],
)
def test_words_become_tags(word, tag):
    assert tags.normalise(word) == tag


def test_lists_of_words_become_tags():
    assert tags.parse_tags("Golden Eyes, smile,smile,") == ("yellow_eyes", "smile")
    assert tags.parse_tags(["red hair"]) == ("red_hair",)
    assert tags.parse_tags("") == tags.parse_tags(" ") == tags.parse_tags(()) == ()
    for word in ("*_hair", "a\tb\x00", ""):
        with pytest.raises(UserError, match="a tag is one name"):
            tags.normalise(word)
