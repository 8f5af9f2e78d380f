"""Faces that the package draws itself, so that `make demo` needs no download and no licence.

Two domains of the same kind of picture: "photo" (shaded relief, strands of hair, a blurred
backdrop, camera noise) and "cartoon" (flat tones, ink lines, vivid hair). Every picture is a pure
function of its `Attributes`; whoever wants unpaired sets gives each domain a seed of its own.
"""

import dataclasses

import numpy as np

from artifygan_jax.data import face_paint
from artifygan_jax.data.face_shapes import BEARDS, CLOTHES, EYES, HAIR, HATS, STYLES, Attributes
from artifygan_jax.errors import UserError, did_you_mean

DOMAINS = ("photo", "cartoon")


def attributes(index: int, seed: int) -> Attributes:
    """The person of this index; depends on (seed, index) alone, not on the people before.

    Age brings grey hair and baldness; beards go with short hair and exclude make-up. The other
    attributes are independent of each other.
    """
    rng = np.random.default_rng([seed, index])
    age = float(rng.uniform() ** 1.3)
    hair = str(rng.choice([h for h in HAIR if h != "grey"], p=[0.3, 0.3, 0.18, 0.22]))
    if rng.uniform() < 1.6 * (age - 0.45):
        hair = "grey"
    bald = 0.22 * max(0.0, age - 0.3)
    rest = (1 - bald) * np.array([0.36, 0.2, 0.28, 0.16])
    style = str(rng.choice(STYLES, p=[*rest, bald]))
    bearded = rng.uniform() < (0.45 if style in ("short", "bald") else 0.08)
    beard = str(rng.choice(BEARDS[1:])) if bearded and age > 0.15 else "none"
    return Attributes(
        smile=float(1 - 2 * rng.uniform() ** 1.4),
        glasses=bool(rng.uniform() < 0.28),
        frames=float(rng.uniform()),
        hat=bool(rng.uniform() < 0.2),
        hair=hair,
        age=age,
        skin=float(rng.uniform() ** 1.4),
        style=style,
        fringe=float(rng.uniform()),
        part=float(rng.uniform(-1, 1)),
        volume=float(rng.uniform()),
        beard=beard,
        brows=float(rng.uniform()),
        makeup=float(rng.uniform()) if beard == "none" and style != "bald" else 0.0,
        eyes=str(rng.choice(list(EYES))),
        width=float(rng.uniform(0.92, 1.06)),
        jaw=float(rng.uniform()),
        nose=float(rng.uniform()),
        lips=float(rng.uniform()),
        tilt=float(rng.normal() * 0.06),
        turn=float(rng.uniform(-1, 1)),
        scale=float(rng.uniform(0.94, 1.06)),
        x=float(0.5 + 0.015 * rng.normal()),
        y=float(0.515 + 0.012 * rng.normal()),
        light=float(rng.uniform(-1, 1)),
        hat_style=str(rng.choice(HATS)),
        hat_hue=float(rng.uniform()),
        clothes=str(rng.choice(CLOTHES)),
        clothes_hue=float(rng.uniform()),
        backdrop=float(rng.uniform()),
        texture=int(rng.integers(2**31)),
    )


def draw(attributes: Attributes, domain: str, size: int) -> np.ndarray:
    """The picture of a person: uint8 [size, size, 3], RGB. Equal arguments, equal bytes."""
    check_domain(domain)
    paint = face_paint.photo if domain == "photo" else face_paint.cartoon
    return np.clip(paint(attributes, size) * 255 + 0.5, 0, 255).astype(np.uint8)


def check_domain(domain: str) -> None:
    """UserError unless it is one of DOMAINS."""
    if domain not in DOMAINS:
        raise UserError(
            f"faces: unknown domain {domain!r}{did_you_mean(str(domain), DOMAINS)};"
            f" use one of {', '.join(DOMAINS)}"
        )


@dataclasses.dataclass(frozen=True)
class Faces:
    """A sequence of `count` drawn pictures, uint8 [size, size, 3], made when they are asked for."""

    domain: str
    count: int
    seed: int
    size: int = 64

    def __post_init__(self):
        check_domain(self.domain)
        if self.count < 1 or self.size < 16 or self.seed < 0:
            raise UserError(
                f"faces: count {self.count}, size {self.size} and seed {self.seed} were given;"
                " give a count from 1, a size from 16 and a seed from 0"
            )

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> np.ndarray:
        return draw(self.attributes(index), self.domain, self.size)

    def attributes(self, index: int) -> Attributes:
        """Who is on picture `index`."""
        if not 0 <= index < self.count:
            raise IndexError(f"faces: picture {index} of {self.count}")
        return attributes(index, self.seed)

    def name(self, index: int) -> str:
        """A stable name, such as photo-000012."""
        return f"{self.domain}-{index:06d}"
