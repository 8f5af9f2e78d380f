"""The tables of AnimeGAN's layouts: what they read off the arrays, and what they refuse."""

import jax
import numpy as np
import pytest
from flax import nnx

from artifygan_jax import bundle, convert
from artifygan_jax.errors import UserError
from artifygan_jax.nets import animegan, animegan2
from artifygan_jax.weights import rules
from tests.golden import draw


def animegan2_source(channels=2):
    """A state dict as bryandlee's, all 77 tensors."""
    c = channels
    source = {}

    def block(name, inputs, outputs, kernel):
        source[f"{name}.1.weight"] = draw(name, (outputs, inputs, kernel, kernel))
        norm(f"{name}.2", outputs)

    def norm(name, outputs):
        source[f"{name}.weight"] = draw(f"{name}s", (outputs,))
        source[f"{name}.bias"] = draw(f"{name}b", (outputs,))

    widths = {"a": (3, c, 2 * c, 2 * c), "b": (2 * c, 4 * c, 4 * c), "d": (4 * c,) * 3}
    widths["e"] = (4 * c, 2 * c, 2 * c, c)
    for group, sizes in widths.items():
        for i, (inputs, outputs) in enumerate(zip(sizes, sizes[1:])):
            kernel = 7 if (group, i) in (("a", 0), ("e", 2)) else 3
            block(f"block_{group}.{i}", inputs, outputs, kernel)
    block("block_c.0", 4 * c, 4 * c, 3)
    for i, inputs in zip((1, 2, 3, 4), (4 * c, 8 * c, 8 * c, 8 * c)):
        name = f"block_c.{i}.layers"
        block(f"{name}.0", inputs, 2 * inputs, 1)
        block(f"{name}.1", 1, 2 * inputs, 3)
        source[f"{name}.1.1.bias"] = draw(name, (2 * inputs,))
        source[f"{name}.2.weight"] = draw(f"{name}p", (8 * c, 2 * inputs, 1, 1))
        norm(f"{name}.3", 8 * c)
    block("block_c.5", 8 * c, 4 * c, 3)
    source["out_layer.0.weight"] = draw("out", (3, c, 1, 1))
    return source


def test_an_animegan2_state_dict_has_77_tensors_and_tells_its_width():
    source = animegan2_source()
    assert len(source) == 77
    net, card = convert.build("animegan2", source)
    assert isinstance(net, animegan2.Generator)
    assert net.options == animegan2.GeneratorOptions(channels=2, upsampling="corners")
    assert card["channels"] == "RGB"
    found = bundle.variables(net)
    np.testing.assert_array_equal(
        found["c/1/depthwise/kernel"][..., 0, 3],
        source["block_c.1.layers.1.1.weight"][3, 0],
    )


@pytest.mark.parametrize("name", ["block_c.3.layers.1.1.bias", "block_e.2.2.weight"])
def test_a_missing_animegan2_tensor_is_named(name):
    source = animegan2_source()
    del source[name]
    with pytest.raises(UserError, match="nothing in the file is for"):
        convert.build("animegan2", source)


def port_source(channels=2, blocks=1):
    """A generator's state dict as ptran1203's: the port's paths, taken back through the table."""
    options = {"channels": channels, "blocks": blocks, "variant": "port", "upsampling": "half"}
    net = animegan.build("generator", options, rngs=nnx.Rngs(0))
    units = {2: ("conv1.depthwise", "conv1.pointwise", "conv2.depthwise", "conv2.pointwise")}
    units[5] = units[2]
    names = [f"encode_blocks.{i}.{u}" for i in range(7) for u in units.get(i, ("conv",)) if i != 4]
    names += ["encode_blocks.4.depthwise", "encode_blocks.4.pointwise"]
    for i in range(blocks):
        names += [f"res_blocks.{i}.{u}" for u in ("conv_block.conv", "depthwise_conv", "conv")]
    names += [f"decode_blocks.{i}.conv" for i in (0, 3, 5, 6)]
    names += [f"decode_blocks.{i}.conv.{u}wise" for i in (1, 4) for u in ("depth", "point")]
    names += ["decode_blocks.2.depthwise", "decode_blocks.2.pointwise", "decode_blocks.7"]
    table = convert.plan("animegan1", {f"{n}.weight": np.zeros((channels, 1, 1, 1)) for n in names})
    source, values = {}, bundle.variables(net)
    for name in names:
        ((path, _),) = rules.targets(table.rules, f"{name}.weight")
        source[f"{name}.weight"] = np.asarray(values[path]).transpose(3, 2, 0, 1)
    return net, source


def test_the_ports_generator_comes_back_bit_equal():
    net, source = port_source()
    assert len(source) == 49 - 7 * 3
    found, _ = convert.build("animegan1", source)
    assert isinstance(found, animegan.Generator) and found.options == net.options
    jax.tree.map(np.testing.assert_array_equal, bundle.variables(found), bundle.variables(net))


@pytest.mark.parametrize("spectral", [True, False])
@pytest.mark.parametrize("stages, growth", [(2, 2), (3, 2), (2, 4), (3, 4)])
def test_the_ports_discriminator_tells_its_options(spectral, stages, growth):
    options = dict(channels=2, norm="plain", spectral=spectral, stages=stages, growth=growth)
    net = animegan.build("discriminator", options, rngs=nnx.Rngs(0))
    source, values = {}, bundle.variables(net)
    indices = [0, *(k + 5 * i for i in range(stages) for k in (2, 4)), 2 + 5 * stages]
    paths = [f"layers/{i}/conv" for i in range(len(indices))] + ["out/conv"]
    for index, path in zip([*indices, 5 + 5 * stages], paths, strict=True):
        name = f"discriminate.{index}.weight"
        kernel = np.asarray(values[f"{path}/kernel"]).transpose(3, 2, 0, 1)
        source[f"{name}_orig" if spectral else name] = kernel
        if spectral:
            source[f"{name}_u"] = np.asarray(values[f"{path}/u"])
            source[f"{name}_v"] = np.asarray(values[f"{path}/v"]).transpose(2, 0, 1).ravel()
    found, _ = convert.build("animegan1", source)
    assert isinstance(found, animegan.Discriminator) and found.options == net.options
    jax.tree.map(np.testing.assert_array_equal, bundle.variables(found), values)


@pytest.mark.parametrize("arch", ["animegan1", "animegan2"])
def test_other_weights_are_no_animegan(arch):
    with pytest.raises(UserError, match="give another --arch or another file"):
        convert.build(arch, {"conv1.weight": np.zeros((1, 1, 1, 1), np.float32)})
    odd = {"discriminate.0.weight": np.zeros(3, np.float32)}
    with pytest.raises(UserError):
        convert.build(arch, odd)
