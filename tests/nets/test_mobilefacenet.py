"""MobileFaceNet against a torch program of its own, on random weights and on the real ones."""

import io
import zipfile

import numpy as np
import PIL.Image
import pytest

from artifygan_jax import bundle, convert
from artifygan_jax.errors import UserError
from artifygan_jax.nets import ops
from artifygan_jax.weights import readers
from tests.conftest import shared
from tests.golden import draw

STAGES = ((2, 1, 5, 2), (4, 2, 1, 2), (2, 2, 6, 1), (4, 2, 1, 2), (2, 2, 2, 1))


def strides():
    return [stride if n == 0 else 1 for _, _, count, stride in STAGES for n in range(count)]


def state_dict(channels=4, embedding=8):
    """Random weights by the names of the source, 333 tensors."""
    out = {}

    def unit(conv, bn, prelu, shape):
        fan = np.prod(shape[1:])
        out[f"{conv}.weight"] = draw(conv, shape) * np.float32(fan**-0.5)
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            out[f"{bn}.{leaf}"] = 0.1 * draw(f"{bn}{leaf}", shape[:1])
            if leaf in ("weight", "running_var"):
                out[f"{bn}.{leaf}"] = 1 + np.abs(out[f"{bn}.{leaf}"])
        out[f"{bn}.num_batches_tracked"] = np.array(3)
        if prelu:
            out[f"{prelu}.weight"] = 0.25 + 0.1 * draw(prelu, shape[:1])

    def named(name, shape, prelu=True):
        unit(f"{name}.conv", f"{name}.bn", f"{name}.prelu" if prelu else None, shape)

    c = channels
    named("conv1", (c, 3, 3, 3))
    named("dw_conv1", (c, 1, 3, 3))
    inputs, n = c, 0
    for expansion, width, count, _ in STAGES:
        for _ in range(count):
            name, middle, outputs = f"blocks.{n}.conv", inputs * expansion, width * c
            unit(f"{name}.0", f"{name}.1", f"{name}.2", (middle, inputs, 1, 1))
            unit(f"{name}.3", f"{name}.4", f"{name}.5", (middle, 1, 3, 3))
            unit(f"{name}.6", f"{name}.7", None, (outputs, middle, 1, 1))
            inputs, n = outputs, n + 1
    named("conv2", (8 * c, inputs, 1, 1))
    named("linear7", (8 * c, 1, 7, 6), prelu=False)
    named("linear1", (embedding, 8 * c, 1, 1), prelu=False)
    return out


def oracle(torch, weights, images):
    """`[B, embedding]` of NHWC uint8 images, computed by torch in float64 from the state dict."""
    functional = torch.nn.functional
    w = {key: torch.tensor(np.asarray(x, np.float64)) for key, x in weights.items()}

    def unit(x, conv, bn, prelu=None, **options):
        x = functional.conv2d(x, w[f"{conv}.weight"], **options)
        leaves = ("running_mean", "running_var", "weight", "bias")
        x = functional.batch_norm(x, *(w[f"{bn}.{leaf}"] for leaf in leaves))
        return functional.prelu(x, w[f"{prelu}.weight"]) if prelu else x

    def named(x, name, prelu=True, **options):
        return unit(x, f"{name}.conv", f"{name}.bn", f"{name}.prelu" if prelu else None, **options)

    x = (torch.tensor(images.astype(np.float64)).permute(0, 3, 1, 2) - 127.5) / 128
    x = named(x, "conv1", stride=2, padding=1)
    x = named(x, "dw_conv1", padding=1, groups=x.shape[1])
    for n, stride in enumerate(strides()):
        name = f"blocks.{n}.conv"
        y = unit(x, f"{name}.0", f"{name}.1", f"{name}.2")
        y = unit(
            y, f"{name}.3", f"{name}.4", f"{name}.5", stride=stride, padding=1, groups=y.shape[1]
        )
        y = unit(y, f"{name}.6", f"{name}.7")
        x = x + y if y.shape == x.shape and stride == 1 else y
    x = named(x, "conv2")
    x = named(x, "linear7", prelu=False, groups=x.shape[1])
    return named(x, "linear1", prelu=False)[:, :, 0, 0].numpy()


def embeddings(net, images):
    return np.asarray(ops.jit(net)(images.astype(np.float32) / 127.5 - 1)["embedding"])


def test_random_weights_give_what_torch_gives():
    torch = pytest.importorskip("torch")
    weights = state_dict()
    assert len(weights) == 333
    net, card = convert.build("mobilefacenet", weights)
    assert (net.options.channels, net.options.embedding) == (4, 8) and card["channels"] == "RGB"
    images = np.random.default_rng(0).integers(0, 256, (2, 112, 96, 3), np.uint8)
    expected = oracle(torch, weights, images)
    found = embeddings(net, images)
    assert found.shape == (2, 8) and np.abs(expected[0] - expected[1]).max() > 1e-3
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_the_last_map_is_a_layer_too_and_needs_nothing_behind_it():
    net, _ = convert.build("mobilefacenet", state_dict())
    images = np.zeros((1, 112, 96, 3), np.float32)
    assert ops.jit(lambda x: net(x, ("features",)))(images)["features"].shape == (1, 7, 6, 32)
    with pytest.raises(UserError, match="unknown layer 'feature'"):
        net(images, ("feature",))


def test_a_face_of_another_size_is_refused():
    net, _ = convert.build("mobilefacenet", state_dict())
    with pytest.raises(UserError, match="96x112 pixels; MobileFaceNet takes 112 high, 96 wide"):
        net(np.zeros((1, 96, 112, 3), np.float32))


def test_a_tensor_too_many_and_one_too_few_are_named():
    weights = state_dict()
    del weights["blocks.3.conv.4.running_var"]
    weights["blocks.15.conv.0.weight"] = np.zeros((8, 4, 1, 1), np.float32)
    with pytest.raises(UserError) as raised:
        convert.build("mobilefacenet", weights)
    for word in ("2 faults", "blocks/3/depthwise/norm/variance", "blocks.15.conv.0.weight"):
        assert word in str(raised.value)


def faces(count):
    """Crops of aligned photos of faces, 112x96."""
    path = shared("data", "celeba", "img_align_celeba.zip")
    with zipfile.ZipFile(path) as archive:
        names = sorted(n for n in archive.namelist() if n.endswith(".jpg"))[:count]
        opened = [PIL.Image.open(io.BytesIO(archive.read(name))).convert("RGB") for name in names]
    crops = [picture.crop((29, 50, 149, 190)).resize((96, 112)) for picture in opened]
    return np.stack([np.asarray(crop) for crop in crops])


def test_the_real_weights_give_what_torch_gives_on_real_faces(tmp_path):
    torch = pytest.importorskip("torch")
    source = shared("data", "weights", "mobilefacenet_068.pth")
    card = convert.convert("mobilefacenet", str(source), str(tmp_path / "m"))
    assert card["parameters"] == 1_019_136
    net, _ = bundle.load(tmp_path / "m")
    images = faces(3)
    expected = oracle(torch, readers.read(source), images)
    worst = np.abs(embeddings(net, images) - expected).max() / np.abs(expected).max()
    assert worst <= 1e-4, worst
    unit = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    assert (unit @ unit.T)[np.triu_indices(3, 1)].max() < 0.5  # three people
