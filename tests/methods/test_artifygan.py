"""ArtifyGAN's losses against the notebook's, its phases, and the pool of old pictures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from artifygan_jax import sharding
from artifygan_jax.content import Content
from artifygan_jax.errors import UserError
from artifygan_jax.methods.artifygan import ArtifyGAN, ImagePool
from artifygan_jax.nets import ops
from artifygan_jax.nets.cartoongan import DiscriminatorOptions, GeneratorOptions
from artifygan_jax.optim import Adam
from artifygan_jax.phases import Engine, assemble, take_apart
from tests import golden
from tests.conftest import shared
from tests.nets.test_vgg import golden_weights, our_net

PX = 16


def nhwc(x):
    return jnp.asarray(x.transpose(0, 2, 3, 1), jnp.float32)


def logit(p):
    return jnp.log(p) - jnp.log1p(-p)


@pytest.fixture(scope="module")
def notebook():
    """(arrays, meta, the recipe's VGG16 without normalisation) of the golden file."""
    path = shared("golden", "artifygan_notebook.npz")
    net = our_net(16, golden_weights(path, "vgg16_features_24"), preprocess="none")
    return *golden.load(path), take_apart(net)


def in_float64(vgg, loss, photo, *inputs):
    """((value, metrics), gradients) of `loss(net, photo, *inputs)` with pictures of float64.

    In float32 a ReLU or a maximum may fall to another side than in the notebook's float64, which
    moves the gradient by 1e-3; in float64 none does.
    """
    graph, weights, _ = vgg

    def of(inputs, photo, weights):
        return loss(assemble(graph, weights), photo, *inputs)

    with jax.enable_x64(True):
        wide = [jnp.asarray(x, jnp.float64) for x in inputs]
        program = ops.jit(jax.value_and_grad(of, has_aux=True))
        return program(wide, jnp.asarray(photo, jnp.float64), weights)


def published(**changes):
    content = Content(layers=("pool4",), reduction="sum")
    return ArtifyGAN(content=content, content_weight=5e-6, **changes)


def check_loss(notebook, name, value):
    arrays, _, _ = notebook
    # golden README: losses agree to 1e-5 relative
    np.testing.assert_allclose(value, arrays[f"out64/loss/{name}"][0], rtol=1e-5)


def check_gradient(notebook, name, index, found):
    """By relative L2, as the golden README has it: L1 and ReLU have kinks."""
    arrays, meta, _ = notebook
    tap = f"loss_grad/{name}/{index}"
    found = np.asarray(found, np.float64).transpose(0, 3, 1, 2)
    tolerance = max(1e-4, 10 * meta["errors"][f"tap/{tap}"]["rel_l2"])
    expected = arrays[f"tap/{tap}"]
    difference = found.ravel()[:: meta["taps"][tap]["step"]] - expected
    assert np.linalg.norm(difference) <= tolerance * np.linalg.norm(expected)
    np.testing.assert_allclose(np.linalg.norm(found), meta["taps"][tap]["l2"], rtol=tolerance)
    probe = golden.probe(tap, found)  # of the whole tensor; its scale is that of one element
    assert abs(probe - meta["taps"][tap]["probe"]) <= 10 * tolerance * meta["taps"][tap]["std"]


@pytest.mark.slow
def test_generator_loss_and_its_gradients_equal_the_notebooks(notebook):
    arrays, _, vgg = notebook

    def loss(net, photo, fake_map, out):
        """The notebook's pictures are in [0, 1] and its D gives probabilities."""
        nets = {
            "g": lambda x, train: 2 * out - 1,
            "d": lambda x, train: logit(fake_map),
            "content": net,
        }
        return published().g_loss(nets, {"photo": 2 * photo - 1}, None)

    inputs = [nhwc(arrays[f"in/{k}"]) for k in ("g_in", "maps/fake", "g_out")]
    (value, metrics), gradients = in_float64(vgg, loss, *inputs)
    check_loss(notebook, "g_loss", value)
    check_loss(notebook, "g_adversarial", metrics["adversarial"])
    check_loss(notebook, "g_loss_init_phase=content_sum_l1", metrics["content"])
    for i, gradient in enumerate(gradients):
        check_gradient(notebook, "g_loss", i, gradient)
    # The picture's share is the content loss alone, times its weight.
    of_content = np.asarray(gradients[1]) / published().content_weight
    check_gradient(notebook, "g_loss_init_phase=content_sum_l1", 0, of_content)


def test_the_first_phase_is_the_notebooks_content_loss(notebook):
    arrays, _, (graph, weights, _) = notebook
    nets = {"g": lambda x, train: 2 * nhwc(arrays["in/g_out"]) - 1}
    photo = 2 * nhwc(arrays["in/g_in"]) - 1

    @ops.jit
    def loss(weights, photo):
        found = nets | {"content": assemble(graph, weights)}
        return published().content_loss(found, {"photo": photo}, None)[0]

    check_loss(notebook, "g_loss_init_phase=content_sum_l1", loss(weights, photo))


def d_loss(method, maps):
    """`method.d_loss` with a D that gives the logits `maps` for pictures known by their number."""
    names = list(maps)
    batch = {name: jnp.full((1, 1, 1, 1), float(i)) for i, name in enumerate(names)}
    batch["photo"] = batch.pop("fake")
    nets = {"g": lambda x, train: x, "d": lambda x, train: maps[names[int(x.ravel()[0])]]}
    return method.d_loss(nets, batch, None)


def test_discriminator_loss_and_its_gradients_equal_the_notebooks(notebook):
    arrays, _, _ = notebook
    names = ("cartoon", "smooth", "fake")
    maps = [nhwc(arrays[f"in/maps/{k}"]) for k in names]

    def loss(*maps):
        return d_loss(published(), dict(zip(names, map(logit, maps), strict=True)))[0]

    check_loss(notebook, "d_loss", loss(*maps))
    for i, gradient in enumerate(jax.grad(loss, argnums=(0, 1, 2))(*maps)):
        check_gradient(notebook, "d_loss", i, gradient)


@pytest.mark.parametrize(
    ("adversarial", "of_one", "of_zero"),
    [
        ("bce", lambda x: np.log1p(np.exp(-x)), lambda x: np.log1p(np.exp(x))),
        ("lsgan", lambda x: (x - 1) ** 2, lambda x: x**2),
    ],
)
def test_cartoons_are_real_and_smooth_and_generated_pictures_are_not(adversarial, of_one, of_zero):
    values = {"cartoon": 0.7, "smooth": -0.4, "fake": 1.9}
    maps = {k: jnp.full((1, 4, 4, 1), v) for k, v in values.items()}
    total, metrics = d_loss(ArtifyGAN(adversarial=adversarial), maps)
    terms = {k: (of_one if k == "cartoon" else of_zero)(v) for k, v in values.items()}
    for k in values:
        assert np.isclose(metrics[k], terms[k]) and np.isclose(metrics[f"logit_{k}"], values[k])
    assert np.isclose(total, sum(terms.values()))


@pytest.mark.parametrize(
    ("adversarial", "value"), [("bce", np.log1p(np.exp(-0.5))), ("lsgan", 0.25)]
)
def test_the_generator_wants_its_pictures_called_real(adversarial, value):
    method = ArtifyGAN(adversarial=adversarial, content=Content(layers=("blur1",)))
    content = lambda x, layers: {"blur1": x}  # noqa: E731
    nets = {
        "g": lambda x, train: x + 0.25,
        "d": lambda x, train: jnp.full((1, 2, 2, 1), 0.5),
        "content": content,
    }
    total, metrics = method.g_loss(nets, {"photo": jnp.zeros((1, 4, 4, 3))}, None)
    assert np.isclose(metrics["adversarial"], value) and np.isclose(metrics["content"], 0.25)
    assert np.isclose(total, value + 21 * 0.25)


def tiny(**changes):
    return ArtifyGAN(
        generator=GeneratorOptions(channels=2, blocks=1, decoder="lean"),
        discriminator=DiscriminatorOptions(channels=2),
        content=Content("random:pyramid", ("blur2", "edges1")),
        pool_px=PX,
        **changes,
    )


def batch_of(seed, count=8):
    rng = np.random.default_rng(seed)
    shape = (count, PX, PX, 3)
    names = ("photo", "cartoon", "smooth")
    return {k: rng.uniform(-1, 1, shape).astype(np.float32) for k in names}


def test_each_loss_moves_the_net_of_its_phase_and_the_discriminators_not_the_generator():
    method = tiny()
    parts = {k: take_apart(net) for k, net in method.nets(nnx.Rngs(0)).items()}
    content = method.content.load()
    batch = {k: jnp.asarray(x) for k, x in batch_of(0, 2).items()}

    def sizes(loss):
        """The largest element of the gradient of each net."""

        def of(params):
            nets = {k: assemble(g, params[k] | b) for k, (g, _, b) in parts.items()}
            return loss(nets | {"content": content}, batch, jax.random.key(0))[0]

        gradients = ops.jit(jax.grad(of))({k: p for k, (_, p, _) in parts.items()})
        return [max(float(jnp.abs(x).max()) for x in gradients[k].values()) for k in ("g", "d")]

    of_g, of_d = sizes(method.d_loss)
    assert of_g == 0 < of_d
    of_g, of_d = sizes(method.content_loss)
    assert of_d == 0 < of_g
    assert sizes(method.g_loss)[0] > 0


@pytest.mark.parametrize(
    ("options", "due"),
    [
        ({"content_steps": 2}, {"content": [0, 1], "d": [2, 3], "g": [2, 3]}),
        (
            {"content_steps": 2, "d_from_start": True},
            {"content": [0, 1], "d": [0, 1, 2, 3], "g": [2, 3]},
        ),
        ({"content_steps": 0}, {"content": [], "d": [0, 1, 2, 3], "g": [0, 1, 2, 3]}),
    ],
)
def test_the_discriminator_joins_with_the_adversarial_loss_or_at_once(options, due):
    phases = ArtifyGAN(**options).phases()
    assert {p.name: [k for k in range(4) if p.due(k)] for p in phases} == due
    assert [(p.name, p.trains) for p in phases] == [
        ("content", ("g",)),
        ("d", ("d",)),
        ("g", ("g",)),
    ]


def test_the_defaults_are_the_decks():
    method = ArtifyGAN()
    assert (method.generator.blocks, method.generator.decoder) == (10, "lean")
    assert (method.adversarial, method.content_weight, method.content_steps) == ("bce", 21, 10_000)


def test_a_wrong_adversarial_loss_is_refused_with_the_choices():
    with pytest.raises(UserError, match="lsgan"):
        tiny(adversarial="lsgn").nets(nnx.Rngs(0))


def test_generate_is_the_generator_without_training():
    method = tiny()
    nets = method.nets(nnx.Rngs(0))
    x = jnp.asarray(batch_of(0, 1)["photo"])
    np.testing.assert_array_equal(method.generate(nets, x), nets["g"](x))


def swapper(size, shape=(1, 1, 1)):
    """(state, swap(state, fresh, key) -> (state, out)) of a new pool."""
    graph, _, state = take_apart(ImagePool(size, shape))

    @jax.jit
    def swap(state, fresh, key):
        pool = assemble(graph, state)
        out = pool.swap(fresh, key)
        return take_apart(pool)[2], out

    return state, swap


def test_a_pool_gives_back_what_comes_until_it_is_full_and_keeps_it():
    state, swap = swapper(8, (2, 2, 3))
    fresh = np.random.default_rng(0).uniform(-1, 1, (8, 2, 2, 3)).astype(np.float32)
    for part in (slice(0, 4), slice(4, 8)):
        state, out = swap(state, fresh[part], jax.random.key(part.start))
        np.testing.assert_array_equal(out, fresh[part])
    np.testing.assert_array_equal(state["images"], fresh.astype(np.float16))
    assert int(state["filled"]) == 8


@pytest.mark.parametrize("size", [16, 13, 8])
def test_no_picture_is_lost_or_doubled_and_half_are_old(size):
    """Pictures carry their number; 8 come at a time, 13 is filled by a batch that also swaps."""
    state, swap = swapper(size)
    seen, stored_first, old, after = [], set(range(1, size + 1)), 0, 0
    for step in range(120):
        ids = np.arange(1 + 8 * step, 9 + 8 * step)  # float16 holds whole numbers to 2048
        fresh = jnp.asarray(ids, jnp.float32).reshape(8, 1, 1, 1)
        state, out = swap(state, fresh, jax.random.key(step))
        out = np.asarray(out).ravel().astype(int)
        assert all(x in ids or x < ids[0] for x in out)
        new = ids[~np.isin(ids, list(stored_first))]
        seen += [x for x in out if not (x in ids and x in stored_first)]
        old += (~np.isin(out, ids)).sum() if len(new) == 8 else 0
        after += 8 if len(new) == 8 else 0
    held = np.asarray(state["images"]).ravel().astype(int)
    assert sorted([*seen, *held]) == list(range(1, 961))
    # some 940 fair coins: four deviations of their mean are 0.065
    assert abs(old / after - 0.5) < 0.065


def test_which_pictures_are_exchanged_follows_from_the_key():
    state, swap = swapper(8)
    state, _ = swap(state, jnp.zeros((8, 1, 1, 1)), jax.random.key(0))
    outs = [
        np.asarray(swap(state, jnp.ones((8, 1, 1, 1)), jax.random.key(k))[1]) for k in (1, 1, 2)
    ]
    assert (outs[0] == outs[1]).all() and (outs[0] != outs[2]).any()


@pytest.mark.parametrize("shape", [(9, 1, 1, 1), (8, 2, 1, 1)])
def test_a_pool_too_small_or_of_another_size_of_pictures_is_refused(shape):
    _, swap = swapper(8)
    with pytest.raises(UserError, match="method.pool is at least the batch size"):
        swap(take_apart(ImagePool(8, (1, 1, 1)))[2], jnp.zeros(shape), jax.random.key(0))


def test_the_pool_persists_through_the_engine_alike_on_one_and_eight_devices():
    method = tiny(pool=12, content_steps=0)
    results = []
    for devices in (1, 8):
        mesh = sharding.make_mesh(devices)
        optim = {"g": Adam(1e-3), "d": Adam(1e-3)}
        nets = method.nets(nnx.Rngs(0))
        phases = method.phases()[1:]
        engine = Engine(phases, nets, method.frozen(), optim, {}, batch_size=8)
        state = sharding.replicate(mesh, engine.init())
        frozen = sharding.replicate(mesh, engine.frozen)
        filled, pools = [], []
        for step in range(3):
            batch = sharding.put_batch(mesh, batch_of(step))
            state, _ = engine.step(state, frozen, batch, step)
            filled.append(int(state.buffers["pool"]["filled"]))
            pools.append(np.asarray(state.buffers["pool"]["images"], np.float32))
        assert filled == [8, 12, 12]
        assert (pools[0][8:] == 0).all() and (pools[1].reshape(12, -1).std(1) > 0).all()
        assert 0 < (pools[1] != pools[2]).reshape(12, -1).any(1).sum() <= 8
        results.append(pools)
    for one, eight in zip(*results, strict=True):
        # float16 has steps of 2**-11 below 1, and sums over devices round differently
        np.testing.assert_allclose(one, eight, rtol=0, atol=2**-10)
