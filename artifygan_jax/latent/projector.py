"""Pictures to codes by optimisation, after StyleGAN2's projector (arXiv:1912.04958, appendix D).

Codes start at the mean code and noise maps at the net's own; both move by Adam, with noise on the
codes that dies out, so that a picture is drawn that looks like the target. Noise maps are kept from
taking the picture over by a penalty on their correlation with themselves, shifted, at every scale.
Differs from NVIDIA's: many targets at once, a code for each layer where asked (W+, held near the
mean), a term of pixels beside the perceptual one, noise maps that are kept.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from artifygan_jax.errors import UserError
from artifygan_jax.latent.distance import Distance
from artifygan_jax.latent.render import Renderer, layer, with_maps
from artifygan_jax.nets import ops

SAMPLES = 10_000  # latents that the mean code is taken of
NOISE_SEED = 0


@dataclasses.dataclass(frozen=True)
class Projection:
    """How codes are looked for; the numbers are NVIDIA's but for `pixels` and `spread`.

    `space` is "w" (one code for all layers) or "w+". `pixels` weighs the mean square of differences
    beside the perceptual distance, `spread` (w+ only) the mean square distance of codes from the
    mean, in variances of codes. `jitter` is the noise on codes at first, in their deviation.
    """

    space: str = "w+"
    steps: int = 400
    rate: float = 0.1
    ramp_up: float = 0.05
    ramp_down: float = 0.25
    jitter: float = 0.05
    jitter_until: float = 0.75
    noise_penalty: float = 1e5
    pixels: float = 1.0
    spread: float = 1e-3

    def __post_init__(self):
        if self.space not in ("w", "w+"):
            raise UserError(f"--space={self.space}: there is w and w+")
        if not 0 <= self.steps <= 100_000:
            raise UserError(f"--steps={self.steps}: give 0 to 100000; 300 to 500 are usual")

    def rate_at(self, step: int) -> float:
        """Adam's rate: a linear rise, then constant, then half a cosine down to 0."""
        t = step / self.steps
        down = 0.5 - 0.5 * np.cos(np.pi * min(1.0, (1 - t) / self.ramp_down))
        return float(self.rate * down * min(1.0, (step + 1) / (self.steps * self.ramp_up)))

    def jitter_at(self, step: int) -> float:
        """How much noise codes get."""
        return self.jitter * max(0.0, 1 - step / self.steps / self.jitter_until) ** 2


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
    """What came of N targets: codes `ws` `[N, num_ws, w_size]`, noise `maps`, float32 `images`
    `[N, H, W, 3]`, `mse` `[N]` of values in [-1, 1] and the `perceptual` distance `[N]`."""

    ws: np.ndarray
    maps: dict[str, np.ndarray]
    images: np.ndarray
    mse: np.ndarray
    perceptual: np.ndarray

    def first(self, count: int) -> "Found":
        """What came of the first `count` targets."""
        maps = {name: m[:count] for name, m in self.maps.items()}
        rest = (x[:count] for x in (self.images, self.mse, self.perceptual))
        return Found(self.ws[:count], maps, *rest)


class Projector:
    """Looks for codes of batches of targets, with one compiled step for batches of one size."""

    def __init__(self, renderer: Renderer, distance: Distance, how: Projection = Projection()):
        self.renderer, self.distance, self.how = renderer, distance, how
        self.mean, self.deviation = code_statistics(renderer)
        self._adam = optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-8)
        self._step = ops.jit(self._stepped, donate_argnums=1)
        self._maps = ops.jit(distance.maps)
        self._look = ops.jit(self._looked)

    def __call__(
        self,
        targets: np.ndarray,
        *,
        start: np.ndarray | None = None,
        watch: Callable[[int, np.ndarray | None], None] = lambda step, images: None,
        shown: tuple[int, ...] = (),
    ) -> Found:
        """Codes of targets uint8 `[N, H, W, 3]` of the net's size; each alone would get the same.

        `start` `[N, num_ws, w_size]` are codes to begin with, an encoder's; 0 steps leave them.
        `watch(step, images)` is called after each step; images are given after those of `shown`.
        """
        x = jnp.asarray(targets, jnp.float32) / 127.5 - 1
        weights = self.renderer.weights, self.distance.weights
        target = x, self._maps(self.distance.weights, x)
        moving = self._start(len(x), start)
        state = moving, self._adam.init(moving)
        for step in range(self.how.steps):
            key = jax.random.fold_in(jax.random.key(NOISE_SEED), step)
            scalars = self.how.rate_at(step), self.how.jitter_at(step)
            state = self._step(weights, state, target, scalars, key)
            seen = step + 1 in shown
            watch(step + 1, np.asarray(self._look(weights, state[0], target)[0]) if seen else None)
        images, mse, perceptual = map(np.asarray, self._look(weights, state[0], target))
        ws = np.array(self._ws(state[0][0]))
        maps = {name: np.asarray(m) for name, m in state[0][1].items()}
        return Found(ws, maps, images, mse, perceptual)

    def _start(
        self, count: int, start: np.ndarray | None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The first codes, one for each layer or one for all, and the net's noise maps."""
        rows = 1 if self.how.space == "w" else self.renderer.num_ws
        if start is None:
            codes = jnp.tile(jnp.asarray(self.mean)[None, None], (count, rows, 1))
        else:
            codes = jnp.asarray(start if rows > 1 else start.mean(1, keepdims=True))
        synthesis = self.renderer.net.synthesis
        own = {k: layer(synthesis, k).noise[...] for k in self.renderer.noise_sides}
        maps = {k: jnp.repeat(m[None], count, axis=0) for k, m in own.items()}
        return codes, {k: _standard(m) for k, m in maps.items()} if self.how.steps else maps

    def _ws(self, codes: jax.Array) -> jax.Array:
        shape = (len(codes), self.renderer.num_ws, codes.shape[-1])
        return jnp.broadcast_to(codes, shape)

    def _stepped(self, weights, state, target, scalars, key):
        moving, adam = state
        rate, jitter = scalars
        gradient = jax.grad(self._loss)(moving, weights, target, jitter, key)
        updates, adam = self._adam.update(gradient, adam)
        codes, maps = jax.tree.map(lambda x, u: x - rate * u, moving, updates)
        return (codes, {name: _standard(m) for name, m in maps.items()}), adam

    def _loss(self, moving, weights, target, jitter, key) -> jax.Array:
        codes, maps = moving
        shape = (1, *codes.shape[1:])  # the same for all targets, which so stay independent
        nudged = codes + jitter * self.deviation * jax.random.normal(key, shape)
        images = with_maps(self.renderer.graph, weights[0], self._ws(nudged), maps)
        loss = self._difference(weights, images, target)
        loss = loss + self.how.noise_penalty * sum(map(_correlation, maps.values()))
        if self.how.space == "w+":
            variance = self.deviation**2 / codes.shape[-1]
            away = jnp.square(codes - jnp.asarray(self.mean)[None, None]).mean((1, 2))
            loss = loss + self.how.spread * away / variance
        return loss.sum()

    def _difference(self, weights, images, target) -> jax.Array:
        mse, perceptual = self._differences(weights, images, target)
        return perceptual + self.how.pixels * mse

    def _differences(self, weights, images, target) -> tuple[jax.Array, jax.Array]:
        seen = self.distance.maps(weights[1], images)
        perceptual = self.distance.between(weights[1], seen, target[1])
        return jnp.square(images - target[0]).mean((1, 2, 3)), perceptual

    def _looked(self, weights, moving, target):
        codes, maps = moving
        images = with_maps(self.renderer.graph, weights[0], self._ws(codes), maps)
        return images, *self._differences(weights, images, target)


def code_statistics(renderer: Renderer) -> tuple[np.ndarray, float]:
    """The mean code `[w_size]` and the root of the mean squared distance from it."""
    o, random = renderer.options, np.random.RandomState(123)  # the seed of NVIDIA's projector
    z = random.randn(SAMPLES, o.z_size).astype(np.float32)
    labels = None
    if o.labels:
        labels = np.eye(o.labels, dtype=np.float32)[random.randint(o.labels, size=SAMPLES)]
    w = renderer.code(z, labels)
    mean = w.mean(0)
    return mean, float(np.sqrt(np.square(w - mean).sum() / SAMPLES))


def _correlation(m: jax.Array) -> jax.Array:
    """`[N]`: squared mean products of noise `[N, r, r]` with its neighbours, summed over halvings."""
    total = jnp.zeros(len(m))
    while True:
        for axis in (1, 2):
            total = total + jnp.square((m * jnp.roll(m, 1, axis)).mean((1, 2)))
        if m.shape[1] <= 8:
            return total
        n, h, w = m.shape
        m = m.reshape(n, h // 2, 2, w // 2, 2).mean((2, 4))


def _standard(m: jax.Array) -> jax.Array:
    """Noise `[N, r, r]` with mean 0 and mean square 1 each."""
    m = m - m.mean((1, 2), keepdims=True)
    return m * jax.lax.rsqrt(jnp.square(m).mean((1, 2), keepdims=True) + 1e-8)
