"""AnimeGANv2's generator as `bryandlee/animegan2-pytorch` publishes it: a state dict of 77 tensors.

Of the sub-layers of a block only `.1`, the convolution, and `.2`, the norm, have weights; only
depthwise convolutions have a bias. Interpolation is "corners", which the weights do not tell.
Every rule renames or permutes axes, so the table can be read backwards.
"""

from artifygan_jax.weights.rules import Plan, Rules, Source, conv, oihw, same, size


def plan(source: Source) -> Plan:
    """The generator; `channels` is read off the first kernel."""
    options = {"channels": size("AnimeGANv2", source, "block_a.0.1.weight", 0)}
    rules: Rules = {
        **_block(r"block_([a-e])\.(\d)", r"\1/\2"),
        **_block(r"block_c\.(\d)\.layers\.0", r"c/\1/expand"),
        **conv(r"block_c\.(\d)\.layers\.1\.1", r"c/\1/depthwise"),
        **_norm(r"block_c\.(\d)\.layers\.1\.2", r"c/\1/depthwise_norm"),
        r"block_c\.(\d)\.layers\.2\.weight": (r"c/\1/project/kernel", oihw),
        **_norm(r"block_c\.(\d)\.layers\.3", r"c/\1/project_norm"),
        r"out_layer\.0\.weight": ("out/kernel", oihw),
    }
    return Plan("animegan2", "generator", options, rules, source)


def _block(source: str, target: str) -> Rules:
    kernel = {rf"{source}\.1\.weight": (f"{target}/conv/kernel", oihw)}
    return {**kernel, **_norm(rf"{source}\.2", f"{target}/norm")}


def _norm(source: str, target: str) -> Rules:
    return {
        rf"{source}\.weight": (f"{target}/scale", same),
        rf"{source}\.bias": (f"{target}/bias", same),
    }
