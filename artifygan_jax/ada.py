"""Adaptive discriminator augmentation (StyleGAN2-ADA, arXiv:2006.06676): the pipe and its strength.

What the discriminator sees, real or generated, goes through `Pipe`, whose operations fire each on
its own with a probability that `Adaptive` moves so that the discriminator does not overfit. The
operations are those of the paper's appendix B, in its order, checked number for number against the
authors' program (`tests/test_ada.py`).
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from artifygan_jax.errors import UserError
from artifygan_jax.nets.ops import Buffer
from artifygan_jax.warp import BANDS, blur, shift, stretch, times, turn, warp

BLIT = ("xflip", "rotate90", "xint")
GEOM = ("scale", "rotate", "aniso", "xfrac")
COLOR = ("brightness", "contrast", "lumaflip", "hue", "saturation")

# Each row of draws and the operation that it belongs to: two rotations, four bands of frequencies.
_BANDS = tuple(f"imgfilter{k}" for k in range(4))
ROWS = {name: name for name in (*BLIT, *GEOM, *COLOR, "noise", "cutout")}
ROWS |= {"rotate_after": "rotate"} | dict.fromkeys(_BANDS, "imgfilter")

GREY = np.full((3, 3), 1 / 3)  # projects a colour onto the axis of greys, (1, 1, 1) / sqrt(3)
ACROSS = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)  # its cross product
POWER = np.array([10, 1, 1, 1]) / 13  # the share of a natural image's power in each octave


class Draws(NamedTuple):
    """The random numbers of one call: they decide whether an operation fires, and how strongly.

    `chance` `[N, rows]` and `uniform` `[N, rows, 2]` lie in [0, 1), `normal` `[N, rows, 2]` and
    `grain` `[N, H, W, C]` (none where there is no noise) are standard normal; rows as in `ROWS`.
    """

    chance: jax.Array
    uniform: jax.Array
    normal: jax.Array
    grain: jax.Array | None = None


def draw(key: jax.Array, shape: tuple[int, ...], grain: bool = False) -> Draws:
    """The draws for images of `shape` `[N, H, W, C]`; each image's own, on any number of devices."""
    keys, rows = jax.random.split(key, 4), (shape[0], len(ROWS))
    return Draws(
        jax.random.uniform(keys[0], rows, jnp.float32),
        jax.random.uniform(keys[1], (*rows, 2), jnp.float32),
        jax.random.normal(keys[2], (*rows, 2), jnp.float32),
        jax.random.normal(keys[3], shape, jnp.float32) if grain else None,
    )


@dataclasses.dataclass(unsafe_hash=True)
class Pipe:
    """The operations and how often and how strongly they act (arXiv:2006.06676, appendix B).

    An operation's number times p is the probability that it fires, for each image on its own; at 0,
    the default, it is not there. In the order in which they are applied, with N(0, s) a normal draw
    of deviation s, U a uniform one, and lengths as fractions of the sides:

    | operation  | fires with    | then does                                                       |
    |------------|---------------|-----------------------------------------------------------------|
    | xflip      | p             | mirrors left and right, in half of the cases                    |
    | rotate90   | p             | turns by 0, 90, 180 or 270 degrees, each as likely              |
    | xint       | p             | shifts by U(-`xint_max`, `xint_max`) per axis, in whole pixels  |
    | scale      | p             | enlarges by 2 ^ N(0, `scale_std`)                               |
    | rotate     | 1 - sqrt(1-p) | turns by U(-180, 180) degrees times `rotate_max`                |
    | aniso      | p             | a = 2 ^ N(0, `aniso_std`): a times as wide, 1 / a times as high |
    | rotate     | 1 - sqrt(1-p) | the same once more: of both, one or more fire with p            |
    | xfrac      | p             | shifts by N(0, `xfrac_std`) per axis                            |
    | brightness | p             | adds N(0, `brightness_std`)                                     |
    | contrast   | p             | multiplies by 2 ^ N(0, `contrast_std`)                          |
    | lumaflip   | p             | mirrors the luminance, in half of the cases                     |
    | hue        | p             | turns colours about grey by U(-180, 180) degrees, x `hue_max`   |
    | saturation | p             | multiplies the distance from grey by 2 ^ N(0, `saturation_std`) |
    | imgfilter  | p per band    | 4 octaves: multiplies one by 2 ^ N(0, `imgfilter_std`), then all|
    |            |               | such that the power of a natural image, (10, 1, 1, 1), is kept  |
    | noise      | p             | adds N(0, abs(N(0, `noise_std`))) to every value                |
    | cutout     | p             | a rectangle of `cutout_size` of each side, anywhere, is 0       |

    All steps of geometry are one resampling, all of colour one matrix. Two differences from the
    authors' program: beyond its edges an image goes on mirrored without end, where theirs is black
    further than a margin that follows from the other images of the batch (at most one side less a
    pixel), seen only by strong zooms and shifts; and reflections in a filter may be repeated, so
    images may be of any size. `rotate90` of rosinality's port, which never turns by 90 or 180
    degrees, is not copied.
    """

    xflip: float = 0.0
    rotate90: float = 0.0
    xint: float = 0.0
    scale: float = 0.0
    rotate: float = 0.0
    aniso: float = 0.0
    xfrac: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    lumaflip: float = 0.0
    hue: float = 0.0
    saturation: float = 0.0
    imgfilter: float = 0.0
    noise: float = 0.0
    cutout: float = 0.0

    xint_max: float = 0.125
    scale_std: float = 0.2
    rotate_max: float = 1.0
    aniso_std: float = 0.2
    xfrac_std: float = 0.125
    brightness_std: float = 0.2
    contrast_std: float = 0.5
    hue_max: float = 1.0
    saturation_std: float = 1.0
    imgfilter_std: float = 1.0
    noise_std: float = 0.1
    cutout_size: float = 0.5

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not 0 <= value < float("inf"):
                raise UserError(f"augmentation {field.name} is {value}; needs a number from 0 up")

    # The sets as the authors name them; `noise` and `cutout` alone are Pipe(noise=1), Pipe(cutout=1).

    @classmethod
    def blit(cls) -> "Pipe":
        """Moves of whole pixels."""
        return cls(**_all(BLIT))

    @classmethod
    def geom(cls) -> "Pipe":
        """General affine maps."""
        return cls(**_all(GEOM))

    @classmethod
    def color(cls) -> "Pipe":
        """Colours."""
        return cls(**_all(COLOR))

    @classmethod
    def filter(cls) -> "Pipe":
        """Frequencies."""
        return cls(imgfilter=1.0)

    @classmethod
    def bg(cls) -> "Pipe":
        """Blit and geom."""
        return cls(**_all(BLIT + GEOM))

    @classmethod
    def bgc(cls) -> "Pipe":
        """Blit, geom and color: what the paper recommends and trains with."""
        return cls(**_all(BLIT + GEOM + COLOR))

    @classmethod
    def bgcf(cls) -> "Pipe":
        """The former and filter."""
        return dataclasses.replace(cls.bgc(), imgfilter=1.0)

    @classmethod
    def bgcfn(cls) -> "Pipe":
        """The former and noise."""
        return dataclasses.replace(cls.bgcf(), noise=1.0)

    @classmethod
    def bgcfnc(cls) -> "Pipe":
        """The former and cutout: everything."""
        return dataclasses.replace(cls.bgcfn(), cutout=1.0)

    def __call__(self, images: jax.Array, key: jax.Array, p: jax.Array | float) -> jax.Array:
        """`images` `[N, H, W, 3]` (about [-1, 1]) augmented by draws of `key`; dtype and shape stay.

        `p` may be traced. Computed in float32, or float64 for images in it. Linear in the images but
        for brightness and noise, so every derivative exists; none goes to `p`.
        """
        if images.ndim != 4 or images.shape[-1] != 3:
            raise ValueError(f"images are {images.shape}, not [N, H, W, 3]")
        return self.apply(images, draw(key, images.shape, self.noise > 0), p)

    def apply(self, images: jax.Array, draws: Draws, p: jax.Array | float) -> jax.Array:
        """`__call__` with given draws."""
        x = images.astype(jnp.promote_types(images.dtype, jnp.float32))
        size = (images.shape[1], images.shape[2])
        if self._any(BLIT + GEOM):
            x = warp(x, self.geometry(draws, p, size))
        if self._any(COLOR):
            x = _recolour(x, self.colours(draws, p).astype(x.dtype))
        if self.imgfilter:
            x = blur(x, self.filters(draws, p))
        if self.noise and draws.grain is not None:
            deviation = self._pick(draws, p, "noise", abs(draws.normal * self.noise_std))
            x = x + (draws.grain * deviation[:, :1, None, None]).astype(x.dtype)
        if self.cutout:
            x = x * self.window(draws, p, size).astype(x.dtype)
        return x.astype(images.dtype)

    def geometry(self, draws: Draws, p: jax.Array | float, size: tuple[int, int]) -> jax.Array:
        """The inverse of all moves, `[N, 3, 3]`: from places after them to places before.

        Places are (x, y, 1) in pixels from the middle; `size` is (height, width).
        """
        u, n, pick = draws.uniform, draws.normal, functools.partial(self._pick, draws, p)
        sides = jnp.array([size[1], size[0]], jnp.float32)[None]
        turned = (2 * u - 1) * np.pi * self.rotate_max
        flip = 1 - 2 * pick("xflip", jnp.floor(2 * u))[:, 0]
        quarters = pick("rotate90", jnp.floor(4 * u))[:, 0]
        moved = jnp.round(pick("xint", (2 * u - 1) * self.xint_max) * sides)
        scale = jnp.exp2(-pick("scale", n * self.scale_std)[:, 0])
        wide = jnp.exp2(-pick("aniso", n * self.aniso_std)[:, 0])
        drift = pick("xfrac", n * self.xfrac_std) * sides
        steps = [
            stretch(flip, jnp.ones_like(flip)),
            turn(quarters * (np.pi / 2)),
            shift(-moved),
            stretch(scale, scale),
            turn(pick("rotate", turned)[:, 0]),
            stretch(wide, 1 / wide),
            turn(pick("rotate_after", turned)[:, 0]),
            shift(-drift),
        ]
        return functools.reduce(times, steps)

    def colours(self, draws: Draws, p: jax.Array | float) -> jax.Array:
        """The changes of colour, `[N, 3, 4]`: what multiplies (red, green, blue, 1)."""
        u, n, pick = draws.uniform, draws.normal, functools.partial(self._pick, draws, p)

        def number(row: str, values: jax.Array) -> jax.Array:
            return pick(row, values)[:, :1, None]

        brightness = number("brightness", n * self.brightness_std)
        contrast = jnp.exp2(number("contrast", n * self.contrast_std))
        flip = number("lumaflip", jnp.floor(2 * u))
        hue = number("hue", (2 * u - 1) * np.pi * self.hue_max)
        saturation = jnp.exp2(number("saturation", n * self.saturation_std))
        eye, grey, across = (jnp.asarray(m, jnp.float32)[None] for m in (np.eye(3), GREY, ACROSS))
        # Each is the identity, and exactly it, where nothing fires.
        mirror = eye - 2 * flip * grey
        turned = eye + jnp.sin(hue) * across + (1 - jnp.cos(hue)) * (grey - eye)
        spread = eye + (saturation - 1) * (eye - grey)
        matrix = times(spread, times(turned, mirror)) * contrast
        offset = matrix.sum(2, keepdims=True) * brightness
        return jnp.concatenate([matrix, offset], 2)

    def filters(self, draws: Draws, p: jax.Array | float) -> jax.Array:
        """The filter of each image, `[N, 43]`, for both axes."""
        gains = jnp.ones((len(draws.chance), len(BANDS)), jnp.float32)
        power = jnp.asarray(POWER, jnp.float32)[None]
        for k, row in enumerate(_BANDS):
            octaves = self._pick(draws, p, row, draws.normal * self.imgfilter_std)[:, 0]
            gain = jnp.ones_like(gains).at[:, k].set(jnp.exp2(octaves))
            gains = gains * gain / jnp.sqrt((power * jnp.square(gain)).sum(1, keepdims=True))
        bands = jnp.asarray(BANDS, jnp.float32)
        return (gains[:, :, None] * bands[None]).sum(1)

    def window(self, draws: Draws, p: jax.Array | float, size: tuple[int, int]) -> jax.Array:
        """What cutout leaves, `[N, H, W, 1]`: 1, and 0 in the rectangle."""
        middle = draws.uniform[:, list(ROWS).index("cutout")]  # x, y
        side = self._pick(draws, p, "cutout", jnp.full_like(draws.uniform, self.cutout_size))
        outside = []
        for axis, length in ((0, size[1]), (1, size[0])):
            at = (jnp.arange(length, dtype=jnp.float32) + 0.5) / length
            outside.append(abs(at[None] - middle[:, axis, None]) >= side[:, axis, None] / 2)
        return (outside[0][:, None, :] | outside[1][:, :, None])[..., None]

    def _pick(self, draws: Draws, p, row: str, values: jax.Array) -> jax.Array:
        """Of `values` `[N, rows, 2]` those of `row` where it fires, else 0: `[N, 2]`."""
        k = list(ROWS).index(row)
        probability = getattr(self, ROWS[row]) * jnp.asarray(p, jnp.float32)
        if ROWS[row] == "rotate":
            probability = 1 - jnp.sqrt(jnp.clip(1 - probability, 0.0, 1.0))
        return jnp.where(draws.chance[:, k, None] < probability, values[:, k], 0.0)

    def _any(self, names: tuple[str, ...]) -> bool:
        return any(getattr(self, name) > 0 for name in names)


def _all(names: tuple[str, ...]) -> dict[str, float]:
    return dict.fromkeys(names, 1.0)


def _recolour(x: jax.Array, matrices: jax.Array) -> jax.Array:
    # A product, as XLA on CPU would resample anew for each term of a sum: 10 of 25 ms.
    turned = jnp.einsum("nhwc,ndc->nhwd", x, matrices[:, :, :3], precision="highest")
    return turned + matrices[:, None, None, :, 3]


@dataclasses.dataclass(unsafe_hash=True)
class AdaptiveOptions:
    """How p moves: from `initial`, towards discriminator outputs on reals of mean sign `target`.

    It would take `kimg` thousand images to go from 0 to 1. The paper's 500 is for training from
    scratch; the authors' program takes 100 where it resumes or transfers. `fixed`: p stays.
    """

    pipe: Pipe = dataclasses.field(default_factory=Pipe.bgc)
    target: float = 0.6
    kimg: float = 500.0
    initial: float = 0.0
    fixed: bool = False

    def __post_init__(self):
        if not self.kimg > 0:
            raise UserError(f"augmentation kimg is {self.kimg}; needs a number above 0")
        if not 0 <= self.initial < float("inf"):
            raise UserError(f"augmentation initial p is {self.initial}; needs a number from 0 up")
        if not -1 <= self.target <= 1:
            raise UserError(f"augmentation target is {self.target}; a mean sign lies in [-1, 1]")


class Adaptive(nnx.Module):
    """A pipe whose p follows the discriminator; nothing of it is trained.

    Remembers `p` and, since p moved last, the sum of `signs` of the discriminator on reals, their
    `count` and the number of `images` shown. All are scalars of float32 (sums are exact below 2^24).
    Means are those of sums, so parts of a batch may be observed one after the other.
    """

    def __init__(self, options: AdaptiveOptions):
        self.options = options
        self.p = Buffer(jnp.asarray(options.initial, jnp.float32))
        self.signs = Buffer(jnp.zeros((), jnp.float32))
        self.count = Buffer(jnp.zeros((), jnp.float32))
        self.images = Buffer(jnp.zeros((), jnp.float32))

    def __call__(self, images: jax.Array, key: jax.Array) -> jax.Array:
        """`images` `[N, H, W, 3]` augmented at the present p."""
        return self.options.pipe(images, key, self.p[...])

    def observe(self, logits: jax.Array, shown: int | jax.Array) -> None:
        """Counts the signs of `logits` on (augmented) reals and `shown` images of the run.

        R1 has logits of reals too: they count, with `shown` 0, as in the authors' program.
        """
        signs = jnp.sign(jax.lax.stop_gradient(logits).astype(jnp.float32))
        self.signs[...] = self.signs[...] + signs.sum()
        self.count[...] = self.count[...] + signs.size
        self.images[...] = self.images[...] + shown

    def adapt(self) -> jax.Array:
        """Moves p by what was observed, forgets that, and returns its mean sign (0: nothing was).

        p goes up where the mean sign is above the target and down where it is below, by images /
        (1000 kimg), whatever the distance. It does not go below 0. There is no upper limit, as in
        the authors' program (rosinality's port stops at 1): beyond 1 the same operations fire.
        Without observations nothing changes.
        """
        signs, count, images = self.signs[...], self.count[...], self.images[...]
        mean = signs / jnp.maximum(count, 1)
        options, seen = self.options, count > 0
        if not options.fixed:
            move = jnp.sign(mean - options.target) * images / (options.kimg * 1000)
            self.p[...] = jnp.where(seen, jnp.maximum(self.p[...] + move, 0), self.p[...])
        for memory in (self.signs, self.count, self.images):
            memory[...] = jnp.where(seen, 0, memory[...])
        return mean
