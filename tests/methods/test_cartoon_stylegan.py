"""Cartoon StyleGAN2: what is frozen, what comes from the source, and what does not fit."""

import importlib.util
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from artifygan_jax import bundle, optim, phases, sharding, train
from artifygan_jax.errors import UserError
from artifygan_jax.methods.cartoon_stylegan import CartoonStyleGAN
from artifygan_jax.nets import stylegan2
from artifygan_jax.nets.stylegan2 import DiscriminatorOptions, GeneratorOptions
from artifygan_jax.optim import Adam
from tests.conftest import ROOT, shared
from tests.shrink import shrink

CHANNELS = (8, 8, 4)


def config():
    path = ROOT / "configs" / "cartoon_stylegan.py"
    spec = importlib.util.spec_from_file_location("config_cartoon_stylegan", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def generator(seed=0, channels=CHANNELS, layers=2):
    options = GeneratorOptions(channels, z_size=8, w_size=8, mapping_layers=layers)
    return stylegan2.Generator(options, rngs=nnx.Rngs(seed))


def method(tmp_path, **options):
    bundle.save(tmp_path / "source", generator(1))
    return CartoonStyleGAN(
        generator=generator().options,
        discriminator=DiscriminatorOptions(CHANNELS),
        source=str(tmp_path / "source"),
        **options,
    )


def nets_of(made):
    return made.nets(nnx.Rngs(0)) | made.frozen()


def test_the_first_styles_are_those_of_the_source(tmp_path):
    made = method(tmp_path, source_styles=2)
    nets = nets_of(made)
    latents = made.latents(3, jax.random.key(0))._replace(cut=jnp.asarray(6))
    ws = made.codes(nets, latents)
    own, source = (nets[k].mapping(latents.first) for k in ("g", "source"))
    np.testing.assert_allclose(ws[:, :2], source[:, :2], rtol=1e-6)
    np.testing.assert_allclose(ws[:, 2:], own[:, 2:], rtol=1e-6)
    assert float(jnp.abs(own - source).min()) > 0


@pytest.mark.parametrize("kind", ["image", "features"])
def test_the_structure_loss_is_zero_for_the_source_itself_and_grows_with_a_change(tmp_path, kind):
    made = method(tmp_path, structure_weight=1.0, structure_layers=2, structure=kind)
    nets = nets_of(made)
    batch = {"real": jnp.zeros((4, 16, 16, 3))}
    structure = lambda nets: float(made.g_loss(nets, batch, jax.random.key(3))[1]["structure"])  # noqa: E731
    # Latents, mixing and noise are shared: the same weights give the same pictures.
    assert structure(nets | {"g": generator(1)}) < 1e-10
    assert structure(nets) > 1e-3


def test_the_structure_loss_looks_at_the_named_resolutions_only(tmp_path):
    made = method(tmp_path, structure_weight=1.0, structure_layers=1)
    nets, changed = nets_of(made), generator(1)
    changed.synthesis.b16.rgb.bias[...] = changed.synthesis.b16.rgb.bias[...] + 1.0
    batch = {"real": jnp.zeros((4, 16, 16, 3))}
    _, found = made.g_loss(nets | {"g": changed}, batch, jax.random.key(3))
    assert float(found["structure"]) < 1e-10
    changed.synthesis.b8.rgb.bias[...] = changed.synthesis.b8.rgb.bias[...] + 1.0
    _, found = made.g_loss(nets | {"g": changed}, batch, jax.random.key(3))
    np.testing.assert_allclose(float(found["structure"]), 1.0, rtol=1e-4)


def test_the_source_is_the_bundle_s_weights_and_not_a_random_net(tmp_path):
    made = method(tmp_path, structure_weight=1.0)
    for path, x in phases.values(made.frozen()["source"]).items():
        np.testing.assert_array_equal(x, phases.values(generator(1))[path], err_msg=path)
    assert method(tmp_path).frozen() == {}  # nothing is loaded that nothing needs


def test_a_source_of_another_size_or_kind_is_one_line(tmp_path):
    made = method(tmp_path, source_styles=2)
    bundle.save(tmp_path / "source", generator(1, (8, 8, 4, 4)))
    with pytest.raises(UserError, match="is of 32 px, the generator of 16"):
        made.frozen()
    options = DiscriminatorOptions(CHANNELS)
    bundle.save(tmp_path / "source", stylegan2.Discriminator(options, rngs=nnx.Rngs(0)))
    with pytest.raises(UserError, match="wanted a stylegan2 generator"):
        made.frozen()


def test_another_depth_of_the_mapping_is_named_and_nothing_is_dropped(tmp_path):
    bundle.save(tmp_path / "eight", generator(layers=8))
    with pytest.raises(UserError, match="mapping_layers is 8, wanted 2"):
        train.start_from({"g": generator()}, "g", str(tmp_path / "eight"))
    bundle.save(tmp_path / "wide", generator(channels=(8, 8, 8)))
    with pytest.raises(UserError, match="channels is"):
        train.start_from({"g": generator()}, "g", str(tmp_path / "wide"))


def test_the_deck_shrunk_keeps_the_frozen_layers_bit_equal_and_compiles_each_phase_once(tmp_path):
    cfg = shrink(config().get_config())
    cfg.optim["g"].freeze_until = 2  # mapping and the block of 4 px
    cfg.optim["d"].freeze_until = 4  # the deck's: the first block
    engine, _ = train.build(cfg, devices=1)
    before = {n: jax.tree.map(np.asarray, p) for n, p in engine.init().params.items()}
    counts = {n: len(engine.fixed[n] & set(before[n])) for n in before}
    assert counts["d"] == 7 and counts["g"] == 4 + 1 + 5 + 4
    state = sharding.replicate(sharding.make_mesh(1), engine.init())
    batch = {"real": np.random.RandomState(0).randint(0, 256, (8, 16, 16, 3), np.uint8)}
    frozen = sharding.replicate(sharding.make_mesh(1), engine.frozen)
    for step in range(4):  # the lazy phases are due every other step
        state, _ = engine.step(state, frozen, batch, step)
    compiled = {name: program._cache_size() for name, program in engine._steps.items()}
    assert compiled == dict.fromkeys(("g", "path", "d", "r1", "ada"), 1)
    for name in ("g", "d"):
        for path, x in before[name].items():
            same = (np.asarray(state.params[name][path]) == x).all()
            assert same == (path in engine.fixed[name]), (name, path)


def test_the_log_says_how_many_parameters_are_trained(tmp_path):
    cfg = shrink(config().get_config())
    engine, _ = train.build(cfg, devices=1)
    said = train.parameter_counts(engine)
    frozen = sum(engine.init().params["d"][path].size for path in engine.fixed["d"])
    assert any(line.startswith("net d:") and f"{frozen:,} frozen" in line for line in said)
    assert frozen and not any("ada" in line for line in said)


@pytest.mark.parametrize(
    ("resolution", "blocks", "frozen"), [(256, 3, 10), (256, 4, 7), (64, 3, 4)]
)
def test_the_two_ways_of_counting_d_s_layers(resolution, blocks, frozen):
    """FreezeD's and Cartoon-StyleGAN's 3 of 256 px is NVIDIA's 10."""
    module = config()
    assert module.freeze_d(resolution, blocks) == frozen
    options = DiscriminatorOptions(stylegan2.widths(resolution))
    net = nnx.eval_shape(lambda: stylegan2.Discriminator(options, rngs=nnx.Rngs(0)))
    names = [name for name, _ in net.layer_names()]
    size = resolution // 2 ** ((frozen - 1) // 3)  # of the first block that moves
    assert names[frozen] == f"b{size}/conv0" and size == 4 * 2**blocks


def test_freezeg_trains_the_last_blocks_of_g():
    options = GeneratorOptions(stylegan2.widths(256))
    net = nnx.eval_shape(lambda: stylegan2.Generator(options, rngs=nnx.Rngs(0)))
    cfg = config().get_config("freezeg")
    patterns = optim.freeze_patterns(cfg.optim["g"], net, "g")
    paths = ["/".join(map(str, p)) for p, _ in nnx.to_flat_state(nnx.state(net, nnx.Param))]
    fixed = optim.frozen_paths(patterns, paths, "g")
    moving = {path.split("/")[1] for path in set(paths) - fixed}
    assert moving == {"b32", "b64", "b128", "b256"}
    assert cfg.method.path_weight == 0


def test_nvidia_s_list_of_frozen_layers(tmp_path):
    """The original's own list for each n, from the golden file."""
    golden = np.load(shared("golden", "nvidia_stylegan2_ada.npz"), allow_pickle=False)
    listed = json.loads(str(golden["meta"]))["freezed_frozen_keys"]
    net = stylegan2.Discriminator(DiscriminatorOptions((16, 16, 16, 16)), rngs=nnx.Rngs(0))
    checked = 0
    for count, keys in listed.items():
        count = int("".join(c for c in str(count) if c.isdigit()))
        patterns = optim.freeze_patterns(Adam(freeze_until=count), net, "d")
        paths = phases.take_apart(net)[1]
        fixed = optim.frozen_paths(patterns, paths, "d") if count else set()
        theirs = {k.rsplit(".", 1)[0] for k in keys if k.endswith((".weight", ".bias"))}
        ours = {p.rsplit("/", 1)[0].replace("/rgb", "/fromrgb").replace("/", ".") for p in fixed}
        assert ours == theirs, count
        checked += bool(theirs)
    assert checked > 2
