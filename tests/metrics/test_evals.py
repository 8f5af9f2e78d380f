"""What a run looks at: grids, batches of one shape, and distances that mean what they say."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from artifygan_jax import augment
from artifygan_jax.content import Content
from artifygan_jax.data.faces import Faces
from artifygan_jax.metrics import distances, evals
from artifygan_jax.metrics.evals import Distance, Samples, grid, in_batches, pairwise, pictures_of
from artifygan_jax.nets import ops

PX, COUNT = 32, 6


def noise(count, side=8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), np.uint8)


def test_pictures_are_the_first_of_a_source_as_squares_of_one_size():
    source = [noise(1, 20, seed)[0][:, :16] for seed in range(3)]
    assert pictures_of(source, 2, 8).shape == (2, 8, 8, 3)
    assert len(pictures_of(source, 0, 8)) == len(pictures_of(source, 9, 8)) == 3
    faces = Faces("photo", 3, seed=1, size=PX)
    np.testing.assert_array_equal(pictures_of(faces, 2, PX), [faces[0], faces[1]])


def test_a_grid_has_its_cells_in_rows_on_white_with_a_gap():
    cells = noise(5, 4)
    sheet = grid([list(cells[:3]), list(cells[3:])], gap=2)
    assert sheet.shape == (4 + 2 + 4, 4 + 2 + 4 + 2 + 4, 3)
    for i, cell in enumerate(cells):
        row, column = 6 * (i // 3), 6 * (i % 3)
        np.testing.assert_array_equal(sheet[row : row + 4, column : column + 4], cell)
    rest = sheet.copy()
    for i in range(5):
        row, column = 6 * (i // 3), 6 * (i % 3)
        rest[row : row + 4, column : column + 4] = 255
    assert (rest == 255).all()


@pytest.mark.parametrize("count", [1, 4, 5, 8])
def test_batches_are_padded_to_one_shape_and_cut_again(count):
    shapes = []

    def generate(x):
        shapes.append(x.shape)
        return 255 - x

    pictures = noise(count)
    np.testing.assert_array_equal(in_batches(generate, pictures, batch=4), 255 - pictures)
    assert shapes == [(4, 8, 8, 3)] * -(-count // 4)


def test_any_number_of_pictures_is_compiled_once():
    program = ops.jit(lambda x: x + 1)
    for count in (3, 16, 21):
        in_batches(lambda x: np.asarray(program(x)), noise(count))
    assert program._cache_size() == 1


def test_a_sample_grid_shows_each_input_beside_its_output(tmp_path):
    samples = Samples(Faces("photo", 5, seed=1, size=PX), count=4, size=PX, pairs_per_row=3)
    assert dict(samples.run(lambda x: 255 - x, 20, tmp_path)) == {}
    sheet = np.asarray(Image.open(tmp_path / "samples" / "0000020.png"))
    assert sheet.shape == (2 * (PX + 2) - 2, 6 * (PX + 2) - 2, 3)
    for i in range(4):
        row, column = (PX + 2) * (i // 3), 2 * (PX + 2) * (i % 3)
        left = sheet[row : row + PX, column : column + PX]
        right = sheet[row : row + PX, column + PX + 2 : column + 2 * PX + 2]
        np.testing.assert_array_equal(left, samples.source[i])
        np.testing.assert_array_equal(right, 255 - left)


def test_later_grids_show_the_same_inputs_and_leave_no_half_file(tmp_path, monkeypatch):
    samples = Samples(Faces("photo", 5, seed=1, size=PX), count=3, size=PX)
    seen = []

    def generate(x):
        seen.append(x.copy())
        return x

    for step in (0, 10):
        samples.run(generate, step, tmp_path)
    np.testing.assert_array_equal(*seen)
    names = {p.name for p in (tmp_path / "samples").iterdir()}
    assert names == {"0000000.png", "0000010.png"}

    def full(self, path, **kwargs):
        path.write_bytes(b"half")
        raise OSError("no space left")

    before = (tmp_path / "samples" / "0000010.png").read_bytes()
    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="no space"):
        samples.run(generate, 10, tmp_path)
    assert (tmp_path / "samples" / "0000010.png").read_bytes() == before


PHOTOS = Faces("photo", COUNT, seed=3, size=PX)
CARTOONS = Faces("cartoon", COUNT, seed=4, size=PX)
NARROW = Content("random:vgg", ("conv1_1", "relu2_2"), options='{"channels": 4}')


@pytest.fixture(scope="module")
def distance():
    return Distance(PHOTOS, CARTOONS, NARROW, count=COUNT, size=PX)


def numbers(distance, generate, folder="."):
    return dict(distance.run(generate, 0, folder))


def as_cartoons(x):
    """A perfect generator: the i-th cartoon for the i-th photo, whatever the batch."""
    photos, cartoons = pictures_of(PHOTOS, 0, PX), pictures_of(CARTOONS, 0, PX)
    which = [np.abs(photos - a.astype(int)).sum((1, 2, 3)).argmin() for a in x]
    return cartoons[which]


def test_cartoons_themselves_are_at_no_distance(distance):
    found = numbers(distance, as_cartoons)
    assert set(found) == {"distance", "photos", "kid", "content", "diversity"}
    # float64 rounding of a Frechet distance whose terms are of the size of `photos`
    assert abs(found["distance"]) < 1e-6 * found["photos"]
    assert found["content"] > 0


def test_untouched_photos_have_the_photos_own_distance_and_diversity_one(distance):
    found = numbers(distance, lambda x: x)
    assert found["distance"] == found["photos"] > 0
    assert found["content"] == 0 and found["diversity"] == 1
    assert found["kid"] > numbers(distance, as_cartoons)["kid"]


def test_the_photos_number_does_not_depend_on_the_generator(distance):
    found = {numbers(distance, f)["photos"] for f in (lambda x: x, as_cartoons, lambda x: 255 - x)}
    assert len(found) == 1


def test_outputs_that_are_all_alike_have_no_diversity(distance):
    found = numbers(distance, lambda x: np.full_like(x, 99))
    assert found["diversity"] == 0 and found["distance"] > 0


def test_the_distance_is_frechets_between_means_over_pixels_of_all_layers(distance):
    net = NARROW.load()

    def pooled(source):
        x = augment.to_float(jnp.asarray(pictures_of(source, 0, PX)))
        maps = NARROW.features(net, x)
        return np.concatenate([np.asarray(maps[k]).mean((1, 2)) for k in NARROW.layers], -1)

    expected = distances.frechet_from_features(pooled(PHOTOS), pooled(CARTOONS))
    # the same float32 features by another program, in a difference of traces
    assert np.isclose(numbers(distance, lambda x: x)["photos"], expected, rtol=1e-3)
    content = np.abs(pooled(CARTOONS) - pooled(PHOTOS)).mean()
    assert np.isclose(numbers(distance, as_cartoons)["content"], content, rtol=1e-4)


def test_the_numbers_do_not_depend_on_the_batch_size(distance, monkeypatch):
    found = numbers(distance, lambda x: 255 - x)
    monkeypatch.setattr(evals, "in_batches", functools.partial(in_batches, batch=4))
    other = numbers(Distance(PHOTOS, CARTOONS, NARROW, count=COUNT, size=PX), lambda x: 255 - x)
    for name, value in found.items():
        # convolutions of another batch may sum in another order; kid is a difference of kernels
        assert np.isclose(value, other[name], rtol=1e-3, atol=1e-4), name


def test_the_features_are_compiled_and_the_references_read_once(distance):
    numbers(distance, lambda x: x)
    before = distance.reference
    numbers(distance, lambda x: 255 - x)
    assert distance.reference is before and distance._pooled._cache_size() == 1


def test_two_distances_keep_their_own_nets():
    other = Content("random:pyramid", ("blur8",))
    a = Distance(PHOTOS, CARTOONS, NARROW, count=COUNT, size=PX)
    b = Distance(PHOTOS, CARTOONS, other, count=COUNT, size=PX)
    assert a.reference[1].shape == (COUNT, 4 + 8) and b.reference[1].shape == (COUNT, 3)
    assert a._pooled is a._pooled


def test_pairwise_is_the_mean_step_around_the_ring():
    values = np.array([0, 10, 40], np.uint8)
    x = np.broadcast_to(values[:, None, None, None], (3, 2, 2, 3))
    assert np.isclose(pairwise(x), (10 + 30 + 40) / 3)
