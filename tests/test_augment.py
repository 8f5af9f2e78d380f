"""Bytes to floats and back; where crops lie and how often pictures are mirrored."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from artifygan_jax import augment, sharding
from artifygan_jax.data.streams import Smoothed, Stream

N, SIDE, CROP = 256, 9, 6


def numbered(count=N, height=SIDE, width=SIDE):
    """Pictures whose pixels say where they are: red the row, green the column, blue the picture."""
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    blue = np.arange(count)[:, None, None] % 256 + np.zeros_like(rows)
    there = [np.broadcast_to(x, blue.shape) for x in (rows, columns)]
    return np.stack([*there, blue], -1).astype(np.uint8)


def crops(key=0, crop=CROP, flip=True):
    found = augment.crop_and_flip(jnp.asarray(numbered()), jax.random.key(key), crop, flip)
    return np.asarray(found)


def mirrored(x):
    return x[:, 0, 0, 1] > x[:, 0, 1, 1]


def test_all_256_values_survive_the_way_to_floats_and_back():
    values = jnp.arange(256, dtype=jnp.uint8)
    floats = augment.to_float(values)
    assert floats.dtype == jnp.float32 and (floats[0], floats[255]) == (-1, 1)
    np.testing.assert_array_equal(augment.to_uint8(floats), values)


def test_values_beyond_the_range_are_clipped_and_others_rounded():
    x = jnp.asarray([-3.0, 3.0, 0.0039, -0.0039, 0.99])
    np.testing.assert_array_equal(augment.to_uint8(x), [0, 255, 128, 127, 254])


def test_bfloat16_is_made_last():
    x = jnp.arange(256, dtype=jnp.uint8)
    expected = augment.to_float(x).astype(jnp.bfloat16)
    np.testing.assert_array_equal(augment.to_float(x, jnp.bfloat16), expected)


def test_every_crop_is_a_window_of_its_own_picture():
    found = crops()
    assert found.shape == (N, CROP, CROP, 3)
    whole = np.where(mirrored(found)[:, None, None, None], found[:, :, ::-1], found)
    tops, lefts = whole[:, 0, 0, 0], whole[:, 0, 0, 1]
    for i, picture in enumerate(numbered()):
        window = picture[tops[i] : tops[i] + CROP, lefts[i] : lefts[i] + CROP]
        np.testing.assert_array_equal(whole[i], window)


def test_windows_differ_by_picture_and_reach_every_place():
    found = crops(flip=False)
    places = {(int(x[0, 0, 0]), int(x[0, 0, 1])) for x in found}
    assert places == {(r, c) for r in range(SIDE - CROP + 1) for c in range(SIDE - CROP + 1)}


def test_half_of_the_pictures_are_mirrored_whole():
    share = np.mean([mirrored(crops(key, crop=0)).mean() for key in range(8)])
    # 2048 coins: the deviation of their mean is 0.011, and four of those are allowed
    assert abs(share - 0.5) < 0.044
    kept = crops(crop=0, flip=False)
    np.testing.assert_array_equal(kept, numbered())


def test_a_crop_of_the_whole_picture_changes_nothing():
    np.testing.assert_array_equal(crops(crop=SIDE, flip=False), numbered())


STREAMS = {
    "photo": Stream(None, size=SIDE, crop=CROP),
    "cartoon": Stream(None, size=SIDE, crop=CROP),
    "smooth": Smoothed("cartoon"),
}


def prepared(key=0, batch=None):
    batch = batch or dict.fromkeys(STREAMS, jnp.asarray(numbered()))
    return augment.prepare(batch, jax.random.key(key), STREAMS, jnp.float32)


def test_twins_share_windows_and_mirrors_and_other_streams_do_not():
    out = prepared()
    assert out["photo"].dtype == jnp.float32
    np.testing.assert_array_equal(out["cartoon"], out["smooth"])
    same = (out["cartoon"] == out["photo"]).reshape(N, -1).all(1).mean()
    assert same < 0.2  # 16 windows and 2 mirrors: one of 32 pictures falls together


def test_another_key_draws_other_windows():
    assert (prepared(0)["photo"] != prepared(1)["photo"]).any()
    np.testing.assert_array_equal(prepared(3)["photo"], prepared(3)["photo"])


@pytest.mark.parametrize("devices", [1, 8])
def test_every_number_of_devices_prepares_the_same_pictures(devices):
    mesh = sharding.make_mesh(devices)
    batch = sharding.put_batch(mesh, dict.fromkeys(STREAMS, numbered()))
    found = jax.jit(lambda b: prepared(5, b))(batch)
    for name, x in prepared(5).items():
        # a fused multiplication may round in another place: one unit of float32 at 1
        np.testing.assert_allclose(found[name], x, rtol=0, atol=1.2e-7)
