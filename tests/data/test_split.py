"""The one split: which names are held out."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from artifygan_jax.data.split import held_out


def test_every_eighth_of_the_sorted_names_is_held_out_in_the_order_given():
    names = [f"{i:02}" for i in range(24)]
    assert np.flatnonzero(held_out(names)).tolist() == [7, 15, 23]
    backwards = names[::-1]
    kept_back = [name for name, held in zip(backwards, held_out(backwards), strict=True) if held]
    assert kept_back == ["23", "15", "07"]


def test_fewer_than_eight_names_hold_nothing_out():
    assert held_out([]).shape == (0,)
    assert held_out(list("gfedcba")).tolist() == [False] * 7
    assert held_out(list("hgfedcba")).tolist() == [True] + [False] * 7


@settings(deadline=None)
@given(st.lists(st.text(max_size=4), unique=True, max_size=80), st.randoms())
def test_the_split_is_of_the_set_and_not_of_its_order(names, random):
    shuffled = random.sample(names, len(names))

    def held(order):
        return {name for name, out in zip(order, held_out(order), strict=True) if out}

    assert held(names) == held(shuffled)
    assert len(held(names)) == len(names) // 8
