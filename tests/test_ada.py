"""Adaptive augmentation: every operation beside the authors' program, derivatives, and how p moves."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from artifygan_jax import ada, phases, warp
from artifygan_jax.errors import UserError
from artifygan_jax.nets.ops import Buffer
from tests import golden
from tests.conftest import shared

GEOMETRY, EVERYTHING = ada.Pipe.bg(), ada.Pipe.bgcfnc()
IN_ORDER = (*ada.BLIT, "scale", "rotate", "aniso", "rotate_after", "xfrac", *ada.COLOR,
            "imgfilter0", "imgfilter1", "imgfilter2", "imgfilter3", "noise", "cutout")  # fmt: skip


def pictures(n, h, w, dtype=np.float32, seed=0):
    return jnp.asarray(np.random.default_rng(seed).uniform(-1, 1, (n, h, w, 3)), dtype)


def nothing(n) -> dict[str, np.ndarray]:
    """Draws by which no operation fires, to be written into."""
    rows = (n, len(ada.ROWS))
    return {
        "chance": np.ones(rows, np.float32),
        "uniform": np.full((*rows, 2), 0.5, np.float32),
        "normal": np.zeros((*rows, 2), np.float32),
    }


apply = jax.jit(ada.Pipe.apply, static_argnums=0)
call = jax.jit(ada.Pipe.__call__, static_argnums=0)


def row(name: str) -> int:
    return list(ada.ROWS).index(name)


# --- beside the authors' program


@pytest.fixture(scope="module")
def original():
    arrays, meta = golden.load(shared("golden", "nvidia_augment.npz"))
    return arrays, meta, jnp.asarray(np.moveaxis(arrays["in/x"], 1, 3))


def same(original, name: str, images, matrices: dict) -> None:
    arrays, meta, _ = original
    golden.check_out(arrays, meta, name, np.moveaxis(np.asarray(images), 3, 1))
    for key, matrix in matrices.items():
        if f"out64/{name}/{key}" in arrays:
            wanted = arrays[f"out64/{name}/{key}"]
            if wanted.ndim == 3:  # else of an operation that is not there
                wanted = wanted[:, : matrix.shape[1]]
                np.testing.assert_allclose(
                    matrix, wanted, rtol=0, atol=2e-6, err_msg=f"{name} {key}"
                )


OPERATIONS = [*ada.BLIT, *ada.GEOM, *ada.COLOR, "imgfilter", "cutout"]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_operation_at_its_percentiles_is_the_original(original, operation):
    percentiles = (0.25, 0.5, 0.75)
    draws = nothing(6)
    for name, field in ada.ROWS.items():
        if field == operation:
            k = row(name)
            draws["chance"][:, k] = 0
            for i, percentile in enumerate(percentiles):
                part = slice(2 * i, 2 * i + 2)
                if name != "rotate_after":  # the original turns only once here
                    draws["uniform"][part, k] = percentile
                draws["normal"][part, k] = float(jax.scipy.special.erfinv(2 * percentile - 1))
    draws = ada.Draws(**draws)
    pipe = ada.Pipe(**{operation: 1.0})
    images = apply(pipe, jnp.tile(original[2], (3, 1, 1, 1)), draws, 1.0)
    matrices = {"G_inv": pipe.geometry(draws, 1.0, (32, 32)), "C": pipe.colours(draws, 1.0)}
    for i, percentile in enumerate(percentiles):
        part = slice(2 * i, 2 * i + 2)
        parts = {key: matrix[part] for key, matrix in matrices.items()}
        same(original, f"debug/{operation}/{percentile}", images[part], parts)


@pytest.mark.parametrize(
    "run", ["blit/p1.0", "geom/p1.0", "color/p1.0", "bgc/p1.0", "bgc/p0.4", "bgcfnc/p1.0"]
)
def test_whole_sets_with_the_recorded_draws_are_the_original(original, run):
    name, p = run.split("/p")
    pipe, p = getattr(ada.Pipe, name)(), float(p)
    prefix = f"draws/random/{run}/"
    recorded = iter([(k, a) for k, a in sorted(original[0].items()) if k.startswith(prefix)])
    draws, grain = nothing(2), None
    for operation in IN_ORDER:
        if not getattr(pipe, ada.ROWS[operation]):
            continue
        pair = [next(recorded), next(recorded)]
        value, chance = pair[::-1] if operation == "cutout" else pair
        kind = "normal" if value[0].endswith("randn") else "uniform"
        draws[kind][:, row(operation)] = value[1].reshape(2, -1)
        draws["chance"][:, row(operation)] = chance[1].reshape(2)
        if operation == "noise":
            grain = jnp.asarray(np.moveaxis(next(recorded)[1], 1, 3))
    assert next(recorded, None) is None
    draws = ada.Draws(**draws, grain=grain)
    matrices = {"G_inv": pipe.geometry(draws, p, (32, 32)), "C": pipe.colours(draws, p)}
    same(original, f"random/{run}", apply(pipe, original[2], draws, p), matrices)


def test_filters_are_the_original(original):
    np.testing.assert_allclose(warp.LOW_PASS, original[0]["const/Hz_geom"], atol=1e-7)
    np.testing.assert_allclose(warp.BANDS, original[0]["const/Hz_fbank"], atol=1e-7)


# --- beside a slow program


def slow_warp(x: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """The definition, in float64: mirrored without end, twice the size, bilinear, half the size."""
    f = warp.LOW_PASS

    def pixel(y, x_):
        fold = [abs((k + n - 1) % (2 * n - 2) - (n - 1)) for k, n in zip((y, x_), x.shape)]
        return x[fold[0], fold[1]]

    @functools.cache
    def fine(y, x_):
        # Zeros between pixels, then a convolution: its tap 5 lies on the pixel itself.
        rows = [(2 * f[t], (y + 5 - t) // 2) for t in range(12) if (y + 5 - t) % 2 == 0]
        columns = [(2 * f[t], (x_ + 5 - t) // 2) for t in range(12) if (x_ + 5 - t) % 2 == 0]
        return sum(a * b * pixel(i, j) for a, i in rows for b, j in columns)

    def at(y, x_):
        i, j = math.floor(y), math.floor(x_)
        corners = ((i, j), (i, j + 1), (i + 1, j), (i + 1, j + 1))
        return sum((1 - abs(y - a)) * (1 - abs(x_ - b)) * fine(a, b) for a, b in corners)

    h, w, _ = x.shape
    out = np.zeros_like(x)
    for i, j, s, t in np.ndindex(h, w, 12, 12):
        place = ((2 * j + t - 5) / 2 - (w - 1) / 2, (2 * i + s - 5) / 2 - (h - 1) / 2, 1)
        column, line, _ = inverse @ place
        out[i, j] += f[s] * f[t] * at(2 * (line + (h - 1) / 2), 2 * (column + (w - 1) / 2))
    return out


def test_a_warp_is_its_definition_also_far_outside_and_for_odd_sides():
    with jax.enable_x64():
        x = pictures(2, 3, 4, np.float64)
        inverse = np.stack([np.eye(3)] * 2)
        inverse[0, :2] = [[0.9, -0.7, 1.3], [0.6, 1.1, -0.4]]
        inverse[1, :2] = [[-1.7, 0.3, 9.1], [0.2, 2.3, -23.7]]
        got = warp.warp(x, jnp.asarray(inverse))
    for k in range(2):
        np.testing.assert_allclose(got[k], slow_warp(np.asarray(x[k]), inverse[k]), atol=1e-11)


# --- what it does to pictures


@pytest.mark.parametrize("size", [(5, 9), (2, 3)])
def test_at_p_0_colours_stay_to_the_bit_and_geometry_to_2e_6(size):
    x = pictures(2, *size)
    key = jax.random.key(0)
    pipe = dataclasses.replace(EVERYTHING, **dict.fromkeys(ada.BLIT + ada.GEOM, 0.0))
    np.testing.assert_array_equal(call(pipe, x, key, 0.0), x)
    np.testing.assert_allclose(call(EVERYTHING, x, key, 0.0), x, rtol=0, atol=2e-6)


def test_beyond_the_edges_there_is_picture_and_never_black():
    x = jnp.full((8, 12, 12, 3), 0.5)
    pipe = ada.Pipe(xfrac=1.0, scale=1.0, rotate=1.0, xfrac_std=3.0, scale_std=1.0)
    np.testing.assert_allclose(call(pipe, x, jax.random.key(1), 1.0), x, rtol=0, atol=1e-5)


def test_every_image_and_every_key_has_its_own_draws_and_one_key_always_the_same():
    x = jnp.tile(pictures(1, 8, 8), (4, 1, 1, 1))
    pipe = ada.Pipe.bgc()
    a, b, c = (np.asarray(call(pipe, x, jax.random.key(k), 1.0)) for k in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert len({image.tobytes() for image in (*a, *c)}) == 8


def test_bfloat16_comes_back_as_such_and_is_computed_in_float32():
    x = pictures(2, 8, 8).astype(jnp.bfloat16)
    key = jax.random.key(3)
    y = call(ada.Pipe.bgc(), x, key, 1.0)
    assert y.dtype == jnp.bfloat16
    exact = call(ada.Pipe.bgc(), x.astype(jnp.float32), key, 1.0)
    np.testing.assert_array_equal(y, exact.astype(jnp.bfloat16))


def test_grey_pictures_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 8, 8, 1\)"):
        EVERYTHING(jnp.zeros((2, 8, 8, 1)), jax.random.key(0), 0.5)


# --- how often operations fire

COUNT = 8192


@pytest.fixture(scope="module")
def many() -> ada.Draws:
    return ada.draw(jax.random.key(7), (COUNT, 1, 1, 3))


def share(which) -> float:
    return float(np.mean(np.asarray(which)))


def moved(matrices, width: int) -> np.ndarray:
    return (
        np.abs(np.asarray(matrices)[:, :width] - np.eye(width, matrices.shape[2])).max((1, 2))
        > 1e-6
    )


@pytest.mark.parametrize(
    ("operation", "wanted"),
    [("xflip", 0.15), ("rotate90", 0.225), ("xint", 0.3), ("scale", 0.3), ("rotate", 0.3),
     ("aniso", 0.3), ("xfrac", 0.3)],
)  # fmt: skip
def test_a_move_fires_with_its_probability(many, operation, wanted):
    pipe = ada.Pipe(**{operation: 0.6})  # at p = 0.5
    found = share(moved(pipe.geometry(many, 0.5, (256, 256)), 2))
    assert abs(found - wanted) < 0.02  # 4 deviations of 8192 draws


@pytest.mark.parametrize(
    ("operation", "wanted"),
    [("brightness", 0.3), ("contrast", 0.3), ("lumaflip", 0.15), ("hue", 0.3), ("saturation", 0.3)],
)
def test_a_colour_fires_with_its_probability(many, operation, wanted):
    pipe = ada.Pipe(**{operation: 0.6})
    assert abs(share(moved(pipe.colours(many, 0.5), 3)) - wanted) < 0.02


def test_a_filter_fires_in_each_band_and_cutout_once(many):
    filters = np.asarray(ada.Pipe(imgfilter=0.6).filters(many, 0.5))
    impulse = np.eye(1, 43, 21)
    assert abs(share(np.abs(filters - impulse).max(1) > 1e-6) - (1 - 0.7**4)) < 0.02
    holes = ~np.asarray(ada.Pipe(cutout=0.6).window(many, 0.5, (8, 8)))
    assert abs(share(holes.any((1, 2, 3))) - 0.3) < 0.02


def test_quarter_turns_are_all_four_and_as_likely(many):
    matrices = np.asarray(ada.Pipe(rotate90=1.0).geometry(many, 1.0, (8, 8)))
    for cos, sin in ((1, 0), (0, 1), (-1, 0), (0, -1)):
        found = share(np.abs(matrices[:, :2, 0] - (cos, sin)).max(1) < 1e-6)
        assert abs(found - 0.25) < 0.02


def test_shifts_are_whole_pixels_up_to_an_eighth_and_drifts_any(many):
    whole = np.asarray(ada.Pipe(xint=1.0).geometry(many, 1.0, (64, 128)))[:, :2, 2]
    np.testing.assert_array_equal(whole, np.round(whole))
    np.testing.assert_array_equal(np.abs(whole).max(0), (16, 8))
    drift = np.asarray(ada.Pipe(xfrac=1.0).geometry(many, 1.0, (64, 128)))[:, :2, 2]
    np.testing.assert_allclose(drift.std(0), (16, 8), rtol=0.04)


# --- derivatives and devices


def test_the_way_back_is_the_transpose():
    with jax.enable_x64():
        x, y = pictures(3, 6, 7, np.float64), pictures(3, 6, 7, np.float64, seed=1)
        inverse = GEOMETRY.geometry(ada.draw(jax.random.key(0), x.shape), 1.0, (6, 7))
        taps = ada.Pipe.filter().filters(ada.draw(jax.random.key(1), x.shape), 1.0)
        for step in (lambda x: warp.warp(x, inverse), lambda x: warp.blur(x, taps)):
            there = jnp.vdot(step(x), y)
            back = jnp.vdot(x, jax.linear_transpose(step, x)(y)[0])
            np.testing.assert_allclose(back, there, rtol=1e-12)
            again = jax.linear_transpose(lambda y: jax.linear_transpose(step, x)(y)[0], y)  # noqa: B023
            np.testing.assert_allclose(again(x)[0], step(x), rtol=0, atol=1e-13)


def test_r1_through_the_pipe_has_the_gradient_of_finite_differences():
    """Forward over reverse, as the losses do it, and reverse over reverse, in one jitted program."""
    with jax.enable_x64():
        x = pictures(2, 5, 6, np.float64)
        weight = jnp.asarray(np.random.default_rng(5).normal(size=(3, 4)))
        key = jax.random.key(2)

        def logits(weight, x):
            return jnp.tanh(EVERYTHING(x, key, 0.9) @ weight).sum((1, 2, 3))

        def penalty(weight):
            return jnp.square(jax.grad(lambda x: logits(weight, x).sum())(x)).sum()

        @jax.jit
        def both(weight):
            still = jax.lax.stop_gradient(jax.grad(lambda x: logits(weight, x).sum())(x))
            forward = lambda w: 2 * jax.jvp(lambda x: logits(w, x).sum(), (x,), (still,))[1]  # noqa: E731
            return jax.grad(forward)(weight), jax.grad(penalty)(weight)

        forward, reverse = both(weight)
        step = 1e-5 * jnp.asarray(np.random.default_rng(6).normal(size=weight.shape))
        slope = (penalty(weight + step) - penalty(weight - step)) / 2
    np.testing.assert_allclose(forward, reverse, rtol=1e-9)
    np.testing.assert_allclose(jnp.vdot(forward, step), slope, rtol=1e-6)


def test_eight_devices_give_what_one_gives_and_send_no_pictures():
    mesh = Mesh(np.array(jax.devices()[:8]), ("data",))
    shards, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("data",), ()))

    def step(x, key, p):
        y, back = jax.vjp(lambda x: EVERYTHING(x, key, p), x)
        return y, back(jnp.cos(y))[0]

    x, key = pictures(8, 8, 8), jax.random.key(4)
    spread = jax.jit(step, in_shardings=(shards, whole, whole), out_shardings=(shards, shards))
    compiled = spread.lower(x, key, jnp.float32(0.7)).compile()
    text = compiled.as_text()
    for send in ("all-gather", "all-reduce", "all-to-all", "collective-permute"):
        assert send not in text
    assert "convolution(" not in text and "_group_count" not in text
    placed = jax.device_put((x, key, jnp.float32(0.7)), (shards, whole, whole))
    for a, b in zip(compiled(*placed), jax.jit(step)(x, key, 0.7)):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


# --- how p moves


def adaptive(**options) -> ada.Adaptive:
    return ada.Adaptive(ada.AdaptiveOptions(**{"kimg": 1.0, "initial": 0.5, **options}))


def test_p_rises_above_the_target_and_falls_below_it_by_images_over_kimg():
    for logits, p in (([2.0, 1.0, 3.0, 0.5], 0.564), ([2.0, -1.0, 3.0, 0.5], 0.436)):
        control = adaptive()
        control.observe(jnp.array(logits[:2]), 32)
        control.observe(jnp.array(logits[2:]), 32)
        mean = control.adapt()
        np.testing.assert_allclose(mean, np.sign(logits).mean())
        np.testing.assert_allclose(control.p[...], p, rtol=1e-6)
        assert [float(v[...]) for v in (control.signs, control.count, control.images)] == [0, 0, 0]


def test_p_stops_at_0_but_not_at_1():
    control = adaptive(initial=0.01)
    control.observe(-jnp.ones(4), 100)
    control.adapt()
    assert float(control.p[...]) == 0
    control = adaptive(initial=0.99)
    control.observe(jnp.ones(4), 100)
    control.adapt()
    np.testing.assert_allclose(control.p[...], 1.09, rtol=1e-6)


def test_beyond_1_as_much_fires_as_at_1(many):
    np.testing.assert_array_equal(
        GEOMETRY.geometry(many, 1.3, (8, 8)), GEOMETRY.geometry(many, 1.0, (8, 8))
    )


def test_without_observations_nothing_changes():
    control = adaptive()
    assert float(control.adapt()) == 0
    assert float(control.p[...]) == 0.5


def test_the_regulariser_counts_signs_but_no_images():
    control = adaptive()
    control.observe(jnp.ones(4), 64)
    control.observe(-jnp.ones(12), 0)
    np.testing.assert_allclose(control.adapt(), -0.5)
    np.testing.assert_allclose(control.p[...], 0.436, rtol=1e-6)


def test_a_fixed_p_stays_and_its_signs_are_still_told():
    control = adaptive(fixed=True)
    control.observe(jnp.ones(4), 64)
    assert float(control.adapt()) == 1
    assert float(control.p[...]) == 0.5 and float(control.count[...]) == 0


def test_images_are_augmented_at_the_present_p():
    x, key = pictures(2, 8, 8), jax.random.key(0)
    control = adaptive(pipe=ada.Pipe.color(), initial=0.0)
    np.testing.assert_array_equal(control(x, key), x)
    control.p[...] = jnp.float32(0.8)
    np.testing.assert_allclose(control(x, key), ada.Pipe.color()(x, key, 0.8), rtol=0, atol=1e-6)


def test_memory_is_buffers_and_passes_gradients_and_scans():
    control = adaptive()
    graph, params, buffers = phases.take_apart(control)
    assert not params and set(buffers) == {"p", "signs", "count", "images"}
    assert all(isinstance(v, Buffer) for v in (control.p, control.signs, control.count))

    def part(buffers, logits):
        def loss(scale, buffers):
            net = phases.assemble(graph, buffers)
            net.observe(scale * logits, len(logits))
            return (scale * logits).sum(), phases.values(net)

        grad, buffers = jax.grad(loss, has_aux=True)(1.0, buffers)
        return buffers, grad

    parts = jnp.array([[1.0, -1.0], [2.0, 3.0]])
    buffers, grads = jax.jit(lambda b: jax.lax.scan(part, b, parts))(buffers)
    assert [float(buffers[k]) for k in ("signs", "count", "images")] == [2, 4, 4]
    np.testing.assert_array_equal(grads, parts.sum(1))


@pytest.mark.parametrize(
    "options", [{"kimg": 0.0}, {"initial": -0.1}, {"initial": math.nan}, {"target": 1.5}]
)
def test_impossible_options_are_named(options):
    with pytest.raises(UserError, match=next(iter(options))):
        ada.AdaptiveOptions(**options)


def test_a_negative_strength_is_named():
    with pytest.raises(UserError, match="hue is -1.0"):
        ada.Pipe(hue=-1.0)


def test_options_can_be_told_apart_by_value():
    assert nnx.split(adaptive())[0] == nnx.split(adaptive())[0]
    assert hash(ada.AdaptiveOptions()) == hash(ada.AdaptiveOptions())
