"""The lite generator's table, against names written down in the order of the original's program."""

import numpy as np
import pytest

from artifygan_jax import convert
from artifygan_jax.errors import UserError
from artifygan_jax.nets import animegan2_lite
from tests.golden import draw


def checkpoint(c=4, scope="generator/G_MODEL"):
    """Variables as TensorFlow numbers them while the program makes one layer after the other."""
    out, convs, norms = {}, [0], [0]

    def conv(inputs, outputs, kernel):
        suffix = f"_{convs[0]}" if convs[0] else ""
        out[f"{scope}/Conv{suffix}/weights"] = draw(
            f"k{convs[0]}", (kernel, kernel, inputs, outputs)
        )
        convs[0] += 1

    def norm(channels, name=None):
        if name is None:
            name = f"LayerNorm_{norms[0]}" if norms[0] else "LayerNorm"
            norms[0] += 1
        out[f"{scope}/{name}/gamma"] = draw(f"{name}g", (channels,))
        out[f"{scope}/{name}/beta"] = draw(f"{name}b", (channels,))

    def block(inputs, outputs, kernel=3, name=None):
        conv(inputs, outputs, kernel)
        norm(outputs, name)

    block(3, c, 7)
    for inputs, middle, outputs in ((c, c, 2 * c), (2 * c, 2 * c, 4 * c), (4 * c, 2 * c, 4 * c)):
        block(inputs, middle)
        block(middle, outputs)
    for name in ("res1", "res2", "res3", "res4"):
        block(4 * c, c, 1, f"{name}_1")
        block(c, c, 3, f"{name}_2")
        conv(c, 4 * c, 1)
    block(4 * c, 4 * c)
    block(4 * c, 2 * c)
    block(2 * c, 2 * c)
    block(2 * c, c)
    block(c, c)
    block(c, c, 7)
    out[f"{scope}/out_layer/Conv/weights"] = draw("out", (1, 1, c, 3))
    return out


@pytest.mark.parametrize("scope", ["generator/G_MODEL", "G_MODEL"])
def test_the_variables_of_the_original_go_to_the_layers_in_their_order(scope):
    source = checkpoint(scope=scope)
    net, card = convert.build("animegan2-lite", source)
    assert isinstance(net, animegan2_lite.Generator) and card["channels"] == "RGB"
    options = animegan2_lite.GeneratorOptions(channels=4, upsampling="legacy", norm_epsilon=1e-12)
    assert net.options == options
    for found, name in (
        (net.down[2].conv2.conv.kernel, "Conv_6/weights"),
        (net.blocks[1].squeeze.conv.kernel, "Conv_10/weights"),
        (net.blocks[3].expand.kernel, "Conv_18/weights"),
        (net.blocks[0].conv.norm.bias, "res1_2/beta"),
        (net.up[0].conv1.norm.scale, "LayerNorm_7/gamma"),
        (net.up[2].conv2.conv.kernel, "Conv_24/weights"),
        (net.out.kernel, "out_layer/Conv/weights"),
    ):
        np.testing.assert_array_equal(found[...], source[f"{scope}/{name}"])


def test_what_else_a_checkpoint_holds_is_left_out_and_what_it_lacks_is_named():
    source = checkpoint() | {
        "discriminator/D/conv_0/kernel": np.zeros(3),
        "beta1_power": np.zeros(()),
        "generator/G_MODEL/Conv_3/weights/Adam_1": np.zeros(3),
        "generator/G_MODEL/Conv_3/weights/Adam": np.zeros(3),
    }
    convert.build("animegan2-lite", source)
    del source["generator/G_MODEL/LayerNorm_12/beta"]
    source["generator/G_MODEL/Conv_25/weights"] = np.zeros((3, 3, 4, 4), np.float32)
    with pytest.raises(UserError, match="2 faults: .*Conv_25.* no rule.*up/2/conv2/norm/bias"):
        convert.build("animegan2-lite", source)


def test_another_file_is_no_lite_generator():
    with pytest.raises(UserError, match="no weights of AnimeGANv2's lite generator"):
        convert.plan("animegan2-lite", {"block_a.0.1.weight": np.zeros((1, 1, 1, 1))})
