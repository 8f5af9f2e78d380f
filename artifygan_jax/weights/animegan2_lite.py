"""AnimeGANv2's lite generator as its authors' TensorFlow 1 program names the variables.

An .npz of the checkpoint's variables, such as `generator/G_MODEL/Conv_3/weights` (HWIO) and
`generator/G_MODEL/LayerNorm_2/gamma`; what else the checkpoint holds (discriminator, VGG, Adam's
moments) is left out. Names follow from `net/generator_lite.py` of `TachibanaYoshino/AnimeGANv2` and
the numbering of tf.contrib; a checkpoint of the lite net has not been at hand. Its norms have eps
1e-12 and it up-samples as TensorFlow 1 does.
"""

from artifygan_jax.weights.rules import Plan, Rules, Source, same, size

BLOCKS = 4
SCOPE = r"(?:generator/)?G_MODEL"
IGNORE = (rf"(?!{SCOPE}/).*", rf"{SCOPE}/.*/Adam(_1)?")
# The blocks of convolution and norm before and behind the residual blocks, in their order.
BEFORE = ("stem", *(f"down/{i}/conv{n}" for i in range(3) for n in (1, 2)))
BEHIND = tuple(f"up/{i}/conv{n}" for i in range(3) for n in (1, 2))


def plan(source: Source) -> Plan:
    """The generator; `channels` is read off the first kernel."""
    first = next((k for k in source if k.endswith("G_MODEL/Conv/weights")), "G_MODEL/Conv/weights")
    options = {
        "channels": size("AnimeGANv2's lite generator", source, first, 3),
        "upsampling": "legacy",
        "norm_epsilon": 1e-12,
    }
    return Plan("animegan2_lite", "generator", options, _rules(), source, IGNORE)


def _rules() -> Rules:
    convs, norms = [f"{block}/conv" for block in BEFORE], {}
    for i in range(BLOCKS):
        convs += [f"blocks/{i}/squeeze/conv", f"blocks/{i}/conv/conv", f"blocks/{i}/expand"]
        norms[f"res{i + 1}_1"], norms[f"res{i + 1}_2"] = f"blocks/{i}/squeeze", f"blocks/{i}/conv"
    convs += [f"{block}/conv" for block in BEHIND]
    norms |= {_numbered("LayerNorm", n): path for n, path in enumerate((*BEFORE, *BEHIND))}
    kernels = {_numbered("Conv", n): path for n, path in enumerate(convs)}
    kernels["out_layer/Conv"] = "out"
    return {
        **{
            rf"{SCOPE}/{scope}/weights": (f"{path}/kernel", same) for scope, path in kernels.items()
        },
        **{
            rf"{SCOPE}/{scope}/gamma": (f"{path}/norm/scale", same) for scope, path in norms.items()
        },
        **{rf"{SCOPE}/{scope}/beta": (f"{path}/norm/bias", same) for scope, path in norms.items()},
    }


def _numbered(scope: str, n: int) -> str:
    return f"{scope}_{n}" if n else scope
