"""Filters on labels: what they select, and what is said about those that cannot be read."""

import numpy as np
import pytest

from artifygan_jax.data.labels import Labels, read_csv, select
from artifygan_jax.errors import UserError

ROWS = [
    ["Smiling", "Male"],
    ["Smiling", "Eyeglasses"],
    [],
    ["Male"],
    [":d", "6+girls", "blonde hair"],
]
LABELS = Labels.of(ROWS)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("Smiling", [0, 1]),
        ("Smiling & ~Eyeglasses", [0]),
        ("~Smiling", [2, 3, 4]),
        ("Smiling|Male", [0, 1, 3]),
        ("Eyeglasses | Smiling & Male", [0, 1]),  # & binds closer than |
        ("(Eyeglasses | Smiling) & Male", [0]),
        ("~(Smiling | Male)", [2, 4]),
        ("~~Male", [0, 3]),
        (":d & 6+girls", [4]),
        ('"blonde hair" & ~Male', [4]),
    ],
)
def test_a_filter_selects(where, expected):
    assert np.flatnonzero(select(LABELS, where)).tolist() == expected


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("Smilling", "'Smilling' .did you mean 'Smiling'"),
        ("Smiling &", "a name is missing before the end"),
        ("", "a name is missing before the end"),
        ("& Male", "a name is missing before '&'"),
        ("Smiling Male", "an operator .* is missing before 'Male'"),
        ("(Smiling", "a bracket that does not close"),
        ("Smiling)", "an operator .* is missing before '\\)'"),
        ('"Smiling', "a quote that does not close"),
    ],
)
def test_a_wrong_filter_is_explained(where, words):
    with pytest.raises(UserError, match=words):
        select(LABELS, where)


def test_rows_taken_in_another_order_keep_their_labels():
    order = np.array([4, 2, 0])
    taken = LABELS.take(order)
    for word in LABELS.vocabulary:
        np.testing.assert_array_equal(taken.has(word), LABELS.has(word)[order])
    assert len(taken) == 3


def test_a_table_of_words_and_a_table_of_flags(tmp_path):
    words = tmp_path / "tags.csv"
    words.write_text("file,hair,eyes\na.jpg,blonde hair,blue eyes\nb.jpg,red hair,\n")
    assert read_csv(str(words)) == {"a.jpg": ["blonde hair", "blue eyes"], "b.jpg": ["red hair"]}
    flags = tmp_path / "attr.csv"
    flags.write_text("image_id,Smiling,Male\na.jpg,1,-1\nb.jpg,-1,-1\n")
    assert read_csv(str(flags)) == {"a.jpg": ["Smiling"], "b.jpg": []}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file,hair\na.jpg,x,y\n", "row 2 has not the 2 columns"),
        ("file,hair\n", "needs a heading and a row"),
        ("file\na\n", "needs a heading and a row"),
        (None, "cannot be read"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path, text, words):
    if text is not None:
        (tmp_path / "t.csv").write_text(text)
    with pytest.raises(UserError, match=words):
        read_csv(str(tmp_path / "t.csv"))
