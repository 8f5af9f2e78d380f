"""JoJoGAN: its features, loss and step are the original's; references; what does not fit."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from artifygan_jax import bundle, phases, train
from artifygan_jax.data.faces import Faces
from artifygan_jax.errors import UserError
from artifygan_jax.latent import references, render
from artifygan_jax.methods import jojogan
from artifygan_jax.methods.jojogan import COLOUR, JoJoGAN, JoJoGANDeck
from artifygan_jax.nets import iresnet, stylegan2
from artifygan_jax.nets.stylegan2 import DiscriminatorOptions, GeneratorOptions
from tests import golden
from tests.shrink import shrink
from tests.stylegan2 import (
    apply,
    check_gradients,
    file,
    gradients,
    nchw,
    nhwc,
    rosinality,
    rosinality_net,
)
from tests.test_train import get_config, leaves

CHANNELS = (8, 8, 4)
KEY = jax.random.key(0)


# ------------------------------------------------------------------------- the original's numbers


def theirs(net):
    """A net of the case; its discriminator ends after the features."""
    changes = dict(mapping_layers=2) if net == "generator" else dict(zero="^b4/")
    return rosinality_net(net, "jojogan", resolution=128, **changes)


@pytest.mark.slow
def test_features_and_their_loss_are_the_originals():
    arrays, meta, _ = file("jojogan")
    names = jojogan.taps(128)
    d, target, image = (
        theirs("discriminator"),
        *(nhwc(arrays[f"in/{k}"]) for k in ("target", "image")),
    )
    wanted = apply(d, lambda d, x: d.features(x, names), target)
    for tap, name in zip(("convs.1", "convs.3", "convs.4", "convs.5"), names, strict=True):
        golden.check_tap(
            meta, f"D(target)/{tap}", nchw(wanted[name]), arrays[f"tap/D(target)/{tap}"]
        )

    def loss(d, image, wanted):
        of = lambda x: sum(jojogan.feature_losses(d.features(x, names), wanted).values()) / 4  # noqa: E731
        return jax.value_and_grad(of)(image)

    value, slope = apply(d, loss, image, wanted)
    golden.check_out(arrays, meta, "feature_loss(image,target)", value[None])
    name = "feature_loss_grad_wrt_image"
    golden.check_tap(meta, name, nchw(slope), arrays[f"tap/{name}"])


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [1.0, 0.6])
def test_a_step_is_the_originals(alpha):
    arrays, meta, _ = file("jojogan")
    g, d, names = theirs("generator"), theirs("discriminator"), jojogan.taps(128)
    wanted = apply(d, lambda d, x: d.features(x, names), nhwc(arrays["in/target"]))
    graph, params, buffers = phases.take_apart(d)
    ws, z = jnp.asarray(arrays["in/latent"]), jnp.asarray(arrays["in/z"])
    mixed, case = JoJoGAN().mixed, f"step(alpha={alpha})"

    def loss(g, ws, z, weights, wanted):
        codes = jojogan.mix(ws, jax.lax.stop_gradient(g.mapping(z)), mixed, alpha)
        critic = phases.assemble(graph, weights)
        found = critic.features(g.synthesis(codes), names)
        return sum(jojogan.feature_losses(found, wanted).values()) / 4

    codes = jojogan.mix(ws, g.mapping(z), mixed, alpha)
    golden.check_out(arrays, meta, f"{case}/latent", codes)
    image = nchw(apply(g, lambda g, ws: g.synthesis(ws), codes))
    golden.check_tap(meta, f"{case}/image", image, arrays[f"tap/{case}/image"])
    value, grads, _ = gradients(loss, g, ws, z, params | buffers, wanted)
    golden.check_out(arrays, meta, f"{case}/loss", value[None])
    check_gradients(meta, case, grads, lambda key: rosinality(key, 128))


def test_codes_and_taps_are_the_originals_at_1024_px_and_clip_below():
    assert jojogan.taps(1024) == ("b1024", "b256", "b128", "b64")
    assert jojogan.taps(64) == ("b64", "b16", "b8")
    assert jojogan.taps(16) == ("b16",)
    assert jojogan.clipped(JoJoGAN().mixed, 18) == tuple(range(7, 18))
    assert jojogan.clipped(JoJoGAN().mixed, 10) == (7, 8, 9)
    assert jojogan.clipped(COLOUR, 18) == (9, 11, 15, 16, 17)
    assert jojogan.clipped(COLOUR, 12) == (9, 11)  # as the golden case has them at 128 px
    with pytest.raises(UserError, match="from 0, such as 7 to 17"):
        jojogan.clipped((), 10)


# ------------------------------------------------------------------------------------ small nets


def pair(folder, channels=CHANNELS):
    options = GeneratorOptions(channels, z_size=8, w_size=8, mapping_layers=2)
    bundle.save(folder / "g", stylegan2.Generator(options, rngs=nnx.Rngs(1)))
    critic = stylegan2.Discriminator(DiscriminatorOptions(channels), rngs=nnx.Rngs(2))
    bundle.save(folder / "d", critic)


@pytest.fixture
def made(tmp_path):
    """(options of a method on a random pair of 16 px and one drawn face, its folder)."""
    pair(tmp_path)
    Image.fromarray(Faces("cartoon", 2, 4, 64)[0]).save(tmp_path / "face.png")
    np.savez(tmp_path / "face.npz", ws=np.random.RandomState(0).randn(1, 6, 8).astype(np.float32))
    at = lambda name: str(tmp_path / name)  # noqa: E731
    return dict(
        source=at("g"),
        critic=at("d"),
        reference=at("face.png"),
        aligned=True,
        latents=at("face.npz"),
    ), tmp_path


def nets_of(method):
    return method.nets(nnx.Rngs(0)) | method.frozen()


def test_fine_tuning_lowers_the_loss_and_moves_the_picture_to_the_reference(made, tmp_path):
    cfg = shrink(get_config("jojogan"))
    cfg.steps, cfg.log_every, cfg.checkpoint_every, cfg.evals = 60, 5, 60, {}
    cfg.method.alpha = 0.2
    before = render.load(cfg.method.source).net
    train.run(cfg, tmp_path / "run", devices=1)
    log = [json.loads(x) for x in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert log[-1]["g/style"] < 0.7 * log[0]["g/style"]
    after = render.load(tmp_path / "run" / "model").net
    ws = np.load(cfg.method.latents)["ws"]
    target = references.read(cfg.method.reference, 16, True)[1] / 127.5 - 1
    far = lambda net: float(np.abs(net.synthesis(jnp.asarray(ws)) - target).mean())  # noqa: E731
    assert far(after) < 0.7 * far(before)


def test_features_of_the_reference_are_computed_once_and_travel_with_the_run(made):
    nets = nets_of(JoJoGAN(**made[0]))
    reference, critic = nets["reference"], nets["critic"]
    found = critic.features(reference.images[...], ("b16",))["b16"]
    np.testing.assert_allclose(reference.taps["b16"][...], found, rtol=1e-5, atol=1e-5)
    state = phases.values(reference)
    assert {"images", "ws", "taps/b16"} <= set(state)  # what a checkpoint holds


def test_only_mixed_codes_differ_and_by_alpha(made):
    nets = nets_of(JoJoGAN(**made[0]))
    whole = JoJoGAN(**made[0], mixed=(4, 5)).codes(nets, KEY)
    half = JoJoGAN(**made[0], mixed=(4, 5), alpha=0.5).codes(nets, KEY)
    ws = nets["reference"].ws[...]
    np.testing.assert_array_equal(whole[:, :4], ws[:, :4])
    assert float(jnp.abs(whole[:, 4:] - ws[:, 4:]).min(2).min()) > 0
    np.testing.assert_allclose(half[:, 4:], (whole + ws)[:, 4:] / 2, rtol=1e-5, atol=1e-6)


def test_several_references_are_learnt_at_once(made):
    options, folder = made
    (folder / "faces").mkdir()
    for i in range(3):
        Image.fromarray(Faces("cartoon", 3, 4, 64)[i]).save(folder / "faces" / f"{i}.png")
    np.savez(folder / "three.npz", ws=np.zeros((3, 6, 8), np.float32))
    options |= dict(reference=str(folder / "faces"), latents=str(folder / "three.npz"))
    method = JoJoGAN(**options)
    nets = nets_of(method)
    assert nets["reference"].images[...].shape == (3, 16, 16, 3)
    assert method.codes(nets, KEY).shape == (3, 6, 8)
    assert np.isfinite(float(method.g_loss(nets, {}, KEY)[0]))


def test_identity_is_zero_at_first_and_grows_as_the_face_changes(made, tmp_path):
    net = iresnet.IResNet(iresnet.Options(18, 4, 16), rngs=nnx.Rngs(3))
    bundle.save(tmp_path / "faces", net)
    method = JoJoGAN(**made[0], identity_weight=2.0, identity=str(tmp_path / "faces"))
    nets = nets_of(method)
    loss, numbers = method.g_loss(nets, {}, KEY)
    assert abs(float(numbers["identity"])) < 1e-5
    g = nets["g"].synthesis
    g.b16.rgb.kernel[...] = -g.b16.rgb.kernel[...]
    loss, numbers = method.g_loss(nets, {}, KEY)
    assert float(numbers["identity"]) > 1e-3
    wanted = float(numbers["style"]) + 2 * float(numbers["identity"])
    np.testing.assert_allclose(float(loss), wanted, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["jojogan", "jojogan_deck"])
def test_a_run_that_goes_on_is_bit_equal(name, tmp_path):
    cfg = shrink(get_config(name))
    cfg.steps = 6
    train.run(cfg, tmp_path / "straight", devices=1)
    for steps in (3, 6):
        cfg.steps = steps
        train.run(cfg, tmp_path / "parts", devices=1)
    a, b = (leaves(tmp_path / part, 6) for part in ("straight", "parts"))
    assert a.keys() == b.keys() and any("['reference']['ws']" in name for name in a)
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


# ---------------------------------------------------------------------------------------- the deck


def test_the_added_layers_change_nothing_at_first_and_learn(made):
    method = JoJoGANDeck(**made[0], layers_px=8)
    nets = nets_of(method)
    source = render.load(made[0]["source"]).net
    ws = nets["reference"].ws[...]
    assert nets["g"].options.added == (8, 8, 8)
    np.testing.assert_array_equal(nets["g"].synthesis(ws), source.synthesis(ws))
    for layer in nets["g"].synthesis.b8.added:
        layer.gain[...] = jnp.ones(())
    assert float(jnp.abs(nets["g"].synthesis(ws) - source.synthesis(ws)).mean()) > 1e-3


def test_d_is_narrow_beyond_full_px_and_the_features_are_the_whole_critics(made):
    method = JoJoGANDeck(**made[0], full_px=8, layers=3)
    nets = nets_of(method)
    assert nets["d"].options.channels == (8, 8, 2) and nets["critic"].options.channels == CHANNELS
    assert nets["d"].options.added == (8, 4, 8)
    assert [p.name for p in method.phases()] == ["d", "g"]


def test_d_learns_to_tell_and_g_is_told(made):
    method = JoJoGANDeck(**made[0])
    nets = nets_of(method)
    loss, numbers = method.g_loss(nets, {}, KEY)
    fooled = float(jax.nn.softplus(-numbers["logit_fake"]))
    np.testing.assert_allclose(float(loss), float(numbers["style"]) + 0.1 * fooled, rtol=1e-5)
    loss, numbers = method.d_loss(nets, {}, KEY)
    plain = jax.nn.softplus(numbers["logit_fake"]) + jax.nn.softplus(-numbers["logit_real"])
    penalty = float(loss - plain) / (method.r1_gamma / 2)
    slope = jax.grad(lambda x: nets["d"](x).sum())(nets["reference"].images[...])
    np.testing.assert_allclose(penalty, float(jnp.square(slope).sum()), rtol=1e-3)


def test_added_layers_where_there_are_none_are_refused():
    with pytest.raises(UserError, match=r"at \[64\] px; this net has them at \[4, 8, 16\]"):
        stylegan2.Generator(GeneratorOptions(CHANNELS, added=(64,)), rngs=nnx.Rngs(0))
    with pytest.raises(UserError, match=r"at \[16\] px; this net has them at \[4, 8\]"):
        stylegan2.Discriminator(DiscriminatorOptions(CHANNELS, added=(16,)), rngs=nnx.Rngs(0))


def test_a_generator_with_added_layers_is_saved_and_read(made, tmp_path):
    nets = nets_of(JoJoGANDeck(**made[0], layers_px=8))
    bundle.save(tmp_path / "deck", nets["g"])
    read, card = bundle.load(tmp_path / "deck")
    assert list(card["options"]["added"]) == [8, 8, 8]
    for path, x in phases.values(nets["g"]).items():
        np.testing.assert_array_equal(x, phases.values(read)[path], err_msg=path)


# -------------------------------------------------------------------------------------- references


def test_codes_are_looked_for_once_and_kept(made, monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("ARTIFYGAN_CACHE", str(tmp_path / "cache"))
    renderer = render.load(made[0]["source"])
    how = dict(aligned=True, steps=3, perceptual="none")
    with caplog.at_level("INFO"):
        first = references.find(renderer, made[0]["reference"], **how)
    assert "looking for the codes" in caplog.text and "mse" in caplog.text
    caplog.clear()
    with caplog.at_level("INFO"):
        again = references.find(renderer, made[0]["reference"], **how)
    assert "looking for the codes" not in caplog.text and "face.png: projector" in caplog.text
    np.testing.assert_array_equal(first.ws, again.ws)
    assert first.ws.shape == (1, 6, 8) and first.images.shape == (1, 16, 16, 3)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
def test_references_of_any_size_and_mode_are_taken(mode, tmp_path):
    picture = Image.fromarray(Faces("cartoon", 1, 4, 64)[0]).resize((90, 60)).convert(mode)
    picture.save(tmp_path / "face.png")
    names, images = references.read(str(tmp_path / "face.png"), 16, True)
    assert names == ("face.png",) and images.shape == (1, 16, 16, 3) and images.dtype == np.uint8


class Finds:
    """A detector that finds the same everywhere."""

    def __init__(self, count):
        self.count = count

    def __call__(self, rgb):
        points = np.array([[20.0, 25], [40, 25], [30, 35], [23, 45], [37, 45]])
        from artifygan_jax.data.align import Face

        return [Face((10, 10, 50, 50), 1.0, points)] * self.count


@pytest.mark.parametrize(
    ("count", "words"), [(0, "no face found, wanted one"), (2, "2 faces found, wanted one")]
)
def test_a_reference_without_just_one_face_is_refused(count, words, made, monkeypatch):
    from artifygan_jax import detect

    monkeypatch.setattr(detect.Detector, "from_package", lambda: Finds(count))
    with pytest.raises(UserError, match=words):
        references.read(made[0]["reference"], 16, False)
    monkeypatch.setattr(detect.Detector, "from_package", lambda: Finds(1))
    assert references.read(made[0]["reference"], 16, False)[1].shape == (1, 16, 16, 3)


def test_what_does_not_fit_is_one_line(made, tmp_path):
    options, folder = made
    wrong = lambda **changes: nets_of(JoJoGAN(**(options | changes)))  # noqa: E731
    with pytest.raises(UserError, match="reference=PICTURE is required"):
        wrong(reference="")
    with pytest.raises(UserError, match="wanted the stylegan2 discriminator that belongs"):
        wrong(critic=options["source"])
    with pytest.raises(UserError, match="latents are for a stylegan2 generator"):
        wrong(source=options["critic"])
    with pytest.raises(UserError, match="no model bundle"):
        wrong(critic=str(folder / "nothing"))
    (folder / "large").mkdir()
    pair(folder / "large", (8, 8, 4, 4))
    with pytest.raises(UserError, match="of 32 px, source .* of 16: they must be a pair"):
        wrong(critic=str(folder / "large" / "d"))
    np.savez(folder / "two.npz", ws=np.zeros((2, 6, 8), np.float32))
    with pytest.raises(UserError, match="has 2 codes for 1 references"):
        wrong(latents=str(folder / "two.npz"))
    with pytest.raises(UserError, match="wanted a network that embeds faces"):
        wrong(identity_weight=1.0, identity=options["critic"])
    (folder / "broken.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match="reference .*broken.png"):
        wrong(reference=str(folder / "broken.png"))
