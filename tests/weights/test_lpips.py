"""LPIPS' heads: the table by widths, and the distance against the formula in torch."""

import numpy as np
import pytest

from artifygan_jax import bundle, convert
from artifygan_jax.errors import UserError
from artifygan_jax.nets.lpips import BACKBONES
from artifygan_jax.weights import readers
from tests.conftest import shared
from tests.golden import draw


def head(backbone):
    """Random weights of a head, by the authors' names."""
    widths = BACKBONES[backbone].values()
    names = [f"lin{n}.model.1.weight" for n in range(len(widths))]
    return {name: np.abs(draw(name, (1, c, 1, 1))) for name, c in zip(names, widths)}


def maps(backbone, seed):
    """Random maps of two pictures, smaller and smaller."""
    sizes = enumerate(BACKBONES[backbone].items())
    return {layer: draw(f"{layer}{seed}", (2, 9 - n, 7 - n, c)) for n, (layer, c) in sizes}


def torch_distance(torch, weights, a, b):
    """The formula of version 0.1 on NCHW tensors, a 1x1 convolution for each layer."""
    total = 0
    for n, layer in enumerate(a):
        x, y = (torch.tensor(m[layer]).double().permute(0, 3, 1, 2) for m in (a, b))
        x, y = (m / (m.square().sum(1, keepdim=True).sqrt() + 1e-10) for m in (x, y))
        kernel = torch.tensor(weights[f"lin{n}.model.1.weight"]).double()
        total = total + torch.nn.functional.conv2d((x - y).square(), kernel).mean((1, 2, 3))
    return total.numpy()


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_head_is_told_by_its_widths_and_gives_the_distance_of_the_formula(backbone):
    torch = pytest.importorskip("torch")
    weights = head(backbone)
    net, _ = convert.build("lpips", weights)
    assert net.options.backbone == backbone and net.layers == tuple(BACKBONES[backbone])
    a, b = maps(backbone, 1), maps(backbone, 2)
    expected = torch_distance(torch, weights, a, b)
    assert expected[0] != expected[1] and (expected > 0).all()
    np.testing.assert_allclose(net(a, b), expected, rtol=1e-5)
    np.testing.assert_array_equal(net(a, a), [0, 0])
    np.testing.assert_array_equal(net(a, b), net(b, a))


def test_maps_that_are_missing_are_named():
    net, _ = convert.build("lpips", head("alex"))
    a = maps("alex", 1)
    with pytest.raises(UserError, match="no maps of 'relu3'"):
        net(a, {k: v for k, v in a.items() if k != "relu3"})


def test_widths_of_no_backbone_and_other_files_are_refused():
    weights = head("alex")
    del weights["lin4.model.1.weight"]
    with pytest.raises(UserError, match="64, 192, 384, 256.*wanted alex"):
        convert.build("lpips", weights)
    with pytest.raises(UserError, match="no weights of LPIPS: lin0.model.1.weight is not among"):
        convert.build("lpips", {"conv1.weight": np.zeros((1, 1, 1, 1))})
    weights = head("alex") | {"lin1.model.1.bias": np.zeros(192, np.float32)}
    with pytest.raises(UserError, match="1 faults: lin1.model.1.bias matches no rule"):
        convert.build("lpips", weights)
    weights = head("squeeze")
    weights["lin2.model.1.weight"] = np.ones((2, 256, 1, 1), np.float32)
    with pytest.raises(UserError, match=r"lin2.model.1.weight .for lin2. has shape .2, 256, 1, 1"):
        convert.build("lpips", weights)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_real_heads_become_bundles(tmp_path, backbone):
    source = shared("data", "weights", f"lpips_v0.1_{backbone}.pth")
    card = convert.convert("lpips", str(source), str(tmp_path / "l"), licence="BSD-2-Clause")
    net, _ = bundle.load(tmp_path / "l")
    assert card["options"] == {"backbone": backbone}
    arrays = readers.read(source)
    np.testing.assert_array_equal(net.lin1[...], arrays["lin1.model.1.weight"].ravel())
    assert min(x.min() for x in arrays.values()) >= 0  # a distance grows with each difference
