"""Tiny generators, and generators from golden weights."""

import numpy as np
from flax import nnx

from artifygan_jax import bundle
from artifygan_jax.latent.render import Renderer
from artifygan_jax.nets import stylegan2

OPTIONS = dict(channels=(16, 16, 8), z_size=16, w_size=16, mapping_layers=2)


def tiny(seed: int = 0, **options) -> stylegan2.Generator:
    """16 px, with noise that counts and a mean code that is not zero."""
    net = stylegan2.build("generator", OPTIONS | options, rngs=nnx.Rngs(seed))
    for resolution in net.synthesis.resolutions:
        block = getattr(net.synthesis, f"b{resolution}")
        for layer in filter(None, (block.conv0, block.conv1)):
            layer.strength[...] += 0.1
        block.rgb.kernel[...] *= 0.3
    net.mapping.w_avg[...] += np.random.default_rng(seed).normal(size=16).astype(np.float32) * 0.3
    return net


def renderer(seed: int = 0, **options) -> Renderer:
    return Renderer(tiny(seed, **options), {"sha256": "0" * 64}, f"tiny{seed}")


def saved(folder, seed: int = 0, **options):
    bundle.save(folder, tiny(seed, **options), {"licence": f"licence {seed}"})
    return folder


def rosinality(weights: dict[str, np.ndarray], *, channels, mapping_layers: int) -> Renderer:
    """The generator of a state dict in rosinality's layout (stylegan-family.md, 2.3)."""
    arrays = {"mapping/w_avg": np.zeros(512, np.float32)}
    for i in range(mapping_layers):
        arrays[f"mapping/layers/{i}/kernel"] = weights[f"style.{i + 1}.weight"].T
        arrays[f"mapping/layers/{i}/bias"] = weights[f"style.{i + 1}.bias"]
    arrays["synthesis/const"] = weights["input.input"][0].transpose(1, 2, 0)
    for i in range(len(channels)):
        block = f"synthesis/b{4 * 2**i}"
        convs = [("conv1", "conv1", 0)] if not i else []
        if i:
            pair = 2 * i - 2
            convs = [(f"conv{j}", f"convs.{pair + j}", 2 * i - 1 + j) for j in (0, 1)]
        for ours, theirs, n in convs:
            arrays[f"{block}/{ours}/bias"] = weights[f"{theirs}.activate.bias"]
            arrays[f"{block}/{ours}/strength"] = weights[f"{theirs}.noise.weight"][0]
            arrays[f"{block}/{ours}/noise"] = weights[f"noises.noise_{n}"][0, 0]
            _modulated(arrays, f"{block}/{ours}", weights, theirs)
        theirs = f"to_rgbs.{i - 1}" if i else "to_rgb1"
        arrays[f"{block}/rgb/bias"] = weights[f"{theirs}.bias"].ravel()
        _modulated(arrays, f"{block}/rgb", weights, theirs)
    options = dict(channels=channels, mapping_layers=mapping_layers)
    return Renderer(bundle.build("stylegan2", "generator", options, arrays), {})


def _modulated(arrays, ours: str, weights, theirs: str) -> None:
    arrays[f"{ours}/kernel"] = weights[f"{theirs}.conv.weight"][0].transpose(2, 3, 1, 0)
    arrays[f"{ours}/affine/kernel"] = weights[f"{theirs}.conv.modulation.weight"].T
    arrays[f"{ours}/affine/bias"] = weights[f"{theirs}.conv.modulation.bias"]
