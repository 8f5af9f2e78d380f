"""Who is on a drawn face, and the outlines of every part; `face_paint` lays colours on them.

Coordinates: the picture is [0, 1] x [0, 1], x to the right, y down. Head coordinates (u, v) run
from -1 to 1 across the face and from the top of the skull to the chin; `pose` maps them to the
picture. Every outline is an array [N, 2] float32 of picture coordinates.
"""

import dataclasses

import numpy as np

# name: (colour of a photo, colour of a cartoon); one attribute drives both.
HAIR = {
    "black": ((38, 32, 32), (52, 58, 140)),
    "brown": ((88, 58, 40), (172, 84, 36)),
    "red": ((140, 68, 38), (232, 62, 72)),
    "blonde": ((202, 164, 108), (255, 208, 64)),
    "grey": ((158, 156, 154), (186, 188, 226)),
}
EYES = {
    "brown": ((84, 52, 32), (150, 80, 30)),
    "blue": ((98, 132, 160), (40, 130, 230)),
    "green": ((104, 120, 80), (50, 165, 85)),
    "grey": ((122, 128, 132), (120, 110, 190)),
}
STYLES = ("short", "bob", "long", "curly", "bald")
BEARDS = ("none", "moustache", "full")
HATS = ("beanie", "cap", "brim")
CLOTHES = ("crew", "collar", "vneck")
SKINS = np.array(  # light to dark
    [(236, 200, 180), (224, 178, 150), (200, 146, 112), (162, 110, 78), (112, 74, 54), (88, 60, 46)]
)
CARTOON_SKINS = np.array(
    [(255, 228, 208), (255, 210, 176), (240, 182, 134), (206, 138, 92), (156, 98, 66), (99, 64, 48)]
)
INK = np.array([44, 26, 38]) / 255
HALF_WIDTH, HALF_HEIGHT = 0.218, 0.298  # of the face, in the picture, at scale 1


@dataclasses.dataclass(frozen=True)
class Attributes:
    """All that a picture shows. Both domains read the same values."""

    smile: float  # -1 (frown) .. 1 (laugh)
    glasses: bool
    frames: float  # 0 (round) .. 1 (square)
    hat: bool
    hair: str  # a key of HAIR
    age: float  # 0 (young) .. 1 (old)
    skin: float  # 0 (light) .. 1 (dark)
    style: str  # one of STYLES
    fringe: float  # 0 (open forehead) .. 1 (bangs)
    part: float  # -1 .. 1, where the hair parts
    volume: float  # 0 .. 1 of the hair
    beard: str  # one of BEARDS
    brows: float  # 0 (thin) .. 1 (bushy)
    makeup: float  # 0 .. 1, lips and lashes
    eyes: str  # a key of EYES
    width: float  # of the face, about 1
    jaw: float  # 0 (pointed) .. 1 (square)
    nose: float  # 0 (small) .. 1 (broad)
    lips: float  # 0 (thin) .. 1 (full)
    tilt: float  # radians, positive clockwise
    turn: float  # -1 (to the left of the picture) .. 1
    scale: float  # of the head, about 1
    x: float  # centre of the head in the picture
    y: float
    light: float  # -1 (from the left of the picture) .. 1
    hat_style: str  # one of HATS
    hat_hue: float  # 0 .. 1
    clothes: str  # one of CLOTHES
    clothes_hue: float  # 0 .. 1
    backdrop: float  # 0 .. 1, hue
    texture: int  # seed of noise and strands


def pose(a: Attributes, points) -> np.ndarray:
    """Head coordinates [N, 2] -> picture coordinates; a turn shifts what is near the viewer."""
    u, v = np.asarray(points, np.float32).T
    u = u + _turned(a, u, v)
    x, y = HALF_WIDTH * a.width * a.scale * u, HALF_HEIGHT * a.scale * v
    cos, sin = np.cos(a.tilt), np.sin(a.tilt)
    return np.stack([a.x + cos * x - sin * (y - 0.3), a.y + 0.3 + sin * x + cos * (y - 0.3)], 1)


def _turned(a: Attributes, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Shift in u by the turn of the head: all of it in the middle, none at ears and crown."""
    return 0.14 * a.turn * np.maximum(0, 1 - u * u - np.where(v < 0, 1.0, 0.4) * v * v)


def unpose(a: Attributes, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Head coordinates of picture coordinates; the turn is undone to first order."""
    cos, sin = np.cos(a.tilt), np.sin(a.tilt)
    dx, dy = x - a.x, y - a.y - 0.3
    u = (cos * dx + sin * dy) / (HALF_WIDTH * a.width * a.scale)
    v = (cos * dy - sin * dx + 0.3) / (HALF_HEIGHT * a.scale)
    return u - _turned(a, u, v), v


def spline(points, closed: bool = False, steps: int = 6) -> np.ndarray:
    """The Catmull-Rom curve through the points, `steps` samples to a span."""
    p = np.asarray(points, np.float32)
    if closed:
        p = np.concatenate([p[-1:], p, p[:2]])
    else:
        p = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    t = (np.arange(steps, dtype=np.float32) / steps)[None, :, None]
    a, b, c, d = (q[:, None] for q in (p[:-3], p[1:-2], p[2:-1], p[3:]))
    curve = 2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2
    curve = (curve + (3 * b - a - 3 * c + d) * t**3).reshape(-1, 2) / 2
    return curve if closed else np.concatenate([curve, p[-2:-1]])


def stroke(path: np.ndarray, width: float, closed: bool = False) -> np.ndarray:
    """The polygon of a pen stroke along a path; an open stroke tapers at both ends."""
    if closed:
        path = np.concatenate([path, path[:1]])
    step = np.gradient(path, axis=0)
    normal = np.stack([-step[:, 1], step[:, 0]], 1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-6
    press = np.ones(len(path)) if closed else np.sin(np.pi * np.linspace(0.06, 0.94, len(path)))
    side = normal * (width / 2 * press**0.6)[:, None]
    return np.concatenate([path + side, (path - side)[::-1]])


def ellipse(u: float, v: float, ru: float, rv: float, steps: int = 20) -> np.ndarray:
    """A closed ellipse in head coordinates, for `pose`; on its own also in the picture."""
    angle = np.linspace(0, 2 * np.pi, steps, endpoint=False)
    return np.stack([u + ru * np.cos(angle), v + rv * np.sin(angle)], 1)


def _mirror(half) -> list[tuple[float, float]]:
    """A left-right symmetric closed outline from its right half, top to bottom on the axis."""
    return [*half, *((-u, v) for u, v in reversed(half) if u > 0)]


def head_path(a: Attributes, cartoon: bool = False) -> np.ndarray:
    """The face from the skull to the chin; a cartoon's jaw is narrower, age widens it."""
    jaw = 0.4 * a.jaw - 0.5 if cartoon else a.jaw
    sag = 0.06 * a.age
    half = [(0, -1), (0.56, -0.87), (0.88, -0.5), (0.96, -0.1), (0.93, 0.28)]
    half += [(0.76 + 0.08 * jaw + sag, 0.6), (0.44 + 0.16 * jaw + sag, 0.87)]
    half += [(0.18, 1.0), (0, 1.02)]
    return pose(a, spline(_mirror(half), closed=True))


def ear_paths(a: Attributes) -> list[np.ndarray]:
    """Left and right ear, a little lower with age."""
    v = 0.16 + 0.03 * a.age
    half = [(0.9, v - 0.2), (1.03, v - 0.22), (1.1, v - 0.1), (1.05, v + 0.08), (0.98, v + 0.2)]
    half += [(0.88, v + 0.14)]
    return [pose(a, spline([(s * x, y) for x, y in half], closed=True)) for s in (-1, 1)]


def neck_path(a: Attributes) -> np.ndarray:
    """The neck, from under the tilted head to the shoulders that stay upright."""
    left, right = pose(a, [(-0.56, 0.5), (0.56, 0.5)])
    base = (a.x - 0.5) * 0.5 + 0.5
    points = [left, right, (base + 0.112, 0.84), (base + 0.19, 0.91), (base + 0.1, 1.1)]
    return spline([*points, (base - 0.1, 1.1), (base - 0.19, 0.91), (base - 0.112, 0.84)], True)


def body_path(a: Attributes) -> np.ndarray:
    """The clothes below the neckline, out of the lower edge of the picture."""
    base = (a.x - 0.5) * 0.5 + 0.5
    dip = {"crew": 0.905, "collar": 0.93, "vneck": 1.0}[a.clothes]
    half = [(0.0, dip), (0.07, dip - 0.012 - 0.4 * (dip - 0.905)), (0.13, 0.852), (0.2, 0.872)]
    half += [(0.35, 0.902), (0.45, 0.96), (0.48, 1.1)]
    left = [(-x, y) for x, y in reversed(half[1:])]
    return np.array([(base + x, y) for x, y in spline(left + half).tolist()], np.float32)


def eye_path(a: Attributes, side: int, wide: float, tall: float) -> np.ndarray:
    """The open eye: an almond about (0.42, 0.04), its outer corner lowered by age."""
    droop = 0.35 * a.age
    almond = [(-1, 0.35), (-0.55, -0.6), (0, -1), (0.55, -0.78 + droop / 2), (1, -0.05 + droop)]
    almond += [(0.5, 0.62), (0, 0.8), (-0.55, 0.7)]
    points = [(side * (0.42 + wide * x), 0.04 + tall * y) for x, y in almond]
    return pose(a, spline(points, closed=True))


def lid_path(a: Attributes, side: int, wide: float, tall: float) -> np.ndarray:
    """The upper lid of `eye_path`, from the inner corner past the outer one."""
    droop = 0.35 * a.age
    lid = [(-1, 0.35), (-0.55, -0.6), (0, -1), (0.55, -0.78 + droop / 2), (1.12, -0.1 + droop)]
    return pose(a, spline([(side * (0.42 + wide * x), 0.04 + tall * y) for x, y in lid]))


def brow_path(a: Attributes, side: int, height: float) -> np.ndarray:
    """The centre line of a brow at this height v; a smile lifts it."""
    lift = 0.025 * max(0.0, a.smile)
    worry = 0.02 * min(0.0, a.smile)  # a frown raises the inner ends
    brow = [(0.19, 0.015 + worry), (0.44, -0.045), (0.7, 0.035 - 0.3 * worry)]
    return pose(a, spline([(side * u, height - lift + v) for u, v in brow]))


def mouth_paths(a: Attributes, half: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Curves from the left to the right corner: upper lip, line between the lips, lower lip."""
    half = half * (1 + 0.22 * max(0.0, a.smile))
    corner, middle = mouth_heights(a)
    full = (0.045 + 0.04 * a.lips) * (1 - 0.45 * a.age)
    upper = [(-1, corner), (-0.45, middle - full - 0.02 * a.smile), (-0.14, middle - 1.35 * full)]
    upper += [(0, middle - 1.1 * full)]
    upper += [(-u, v) for u, v in reversed(upper[:-1])]
    line = [(-1, corner), (-0.45, middle - 0.008), (0, middle), (0.45, middle - 0.008), (1, corner)]
    opened = open_mouth(a)
    lower = [(-1, corner), (-0.5, middle + 0.95 * full + 0.75 * opened)]
    lower += [(0, middle + 1.55 * full + opened)]
    lower += [(-u, v) for u, v in reversed(lower[:-1])]
    top, between, bottom = (
        pose(a, spline([(half * u, v) for u, v in c])) for c in (upper, line, lower)
    )
    return top, between, bottom


def mouth_heights(a: Attributes) -> tuple[float, float]:
    """v of the corners of the mouth and of its middle."""
    bend = a.smile * (0.08 if a.smile > 0 else 0.05) + 0.012
    return 0.635 - bend, 0.635 + 0.3 * bend


def open_mouth(a: Attributes) -> float:
    """How far a smile opens the mouth, in head coordinates; 0 while the lips are closed."""
    return 0.16 * max(0.0, a.smile - 0.3)


def _hair_outline(a: Attributes) -> tuple[float, np.ndarray]:
    """(v where the hair ends, outer silhouette from its left end over the top to its right end)."""
    puff = (0.1 + 0.12 * a.volume) * (0.3 if a.hat else 1.0)
    end = {"short": -0.02, "bob": 0.92, "long": 1.5, "curly": 0.5}[a.style]
    half = [(0, -1 - puff), (0.5, -0.93 - 0.95 * puff), (0.88 + 0.5 * puff, -0.58 - 0.3 * puff)]
    if a.style == "short":
        half += [(0.97 + 0.5 * puff, -0.25), (0.99, end)]
    else:
        half += [(1.02 + 0.7 * puff, -0.15), (1.1 + puff, 0.5 * end)]
        half += [(1.12 + 0.8 * puff, 0.85 * end), (1.0, end + 0.06)]
    outer = spline([(-u, v) for u, v in reversed(half[1:])] + half)
    if a.style == "curly":
        step = np.gradient(outer, axis=0)
        normal = np.stack([step[:, 1], -step[:, 0]], 1) / np.linalg.norm(step, axis=1)[:, None]
        curls = 0.05 + 0.09 * np.abs(np.sin(0.62 * np.arange(len(outer))))
        outer = outer + normal * curls[:, None]
    return end, outer


def _hairline(a: Attributes) -> np.ndarray:
    """The edge of the hair on the forehead, right to left: parted, or bangs in five locks."""
    part = 0.5 * a.part
    if a.fringe < 0.5 or a.style == "curly":
        drop = 0.3 * a.fringe
        edge = [(0.88, -0.22), (0.5 * (0.9 + part), -0.6 + drop), (part + 0.04, -0.8)]
        edge += [(part - 0.04, -0.8), (0.5 * (part - 0.9), -0.6 + drop), (-0.88, -0.22)]
        return spline(edge)
    low = -0.42 + 0.16 * (a.fringe - 0.5)
    edge = [(0.9, -0.2)]
    for i, u in enumerate(np.linspace(0.66, -0.66, 5)):
        tip = low + (0.05 if i % 2 else 0.0) - 0.06 * abs(u)
        edge += [(u + 0.17, tip - 0.1), (u + 0.06 * a.part, tip), (u - 0.1, tip - 0.06)]
    return spline([*edge, (-0.9, -0.2)], steps=4)


def hair_paths(a: Attributes) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(hair behind the head, hair in front of it); the bald keep a patch over each ear."""
    if a.style == "bald":
        patch = [(0.9, -0.4), (1.02, -0.3), (1.05, 0.0), (0.98, 0.16), (0.9, 0.1), (0.93, -0.1)]
        patches = [pose(a, spline([(s * u, v) for u, v in patch], closed=True)) for s in (-1, 1)]
        return [], patches if a.age > 0.4 else []
    end, outer = _hair_outline(a)
    hem = spline([(1.0, end), (0.5, end - 0.12), (-0.5, end - 0.12), (-1.0, end)])
    inner = _hairline(a)
    if a.style != "short":
        side = spline([(0.88, end - 0.14), (0.92, 0.5 * end), (0.94, 0.1), (0.88, -0.2)])
        inner = np.concatenate([side, inner, side[::-1] * (-1, 1)])
    else:
        side = [(0.97, -0.06), (0.9, -0.04)]
        inner = np.concatenate([side, inner, [(-u, v) for u, v in reversed(side)]])
    back = [pose(a, np.concatenate([outer, hem]))]
    return back, [pose(a, np.concatenate([outer, inner]))]


def lock_paths(a: Attributes) -> list[np.ndarray]:
    """Centre lines of a few locks, from the parting outwards."""
    if a.style == "bald":
        return []
    end, _ = _hair_outline(a)
    crown = np.array([0.5 * a.part, -0.98])
    locks = []
    for u in (-0.86, -0.55, -0.2, 0.2, 0.55, 0.86):
        tip = np.array([u * 1.04, -0.62 + 0.36 * abs(u)])
        bend = (crown + tip) / 2 + np.array([0.22 * np.sign(u - crown[0]), -0.1])
        locks.append(pose(a, spline([crown + 0.2 * (tip - crown), bend, tip])))
    if a.style in ("bob", "long"):
        for s in (-1, 1):
            points = [(s * 1.03, -0.1), (s * 1.07, 0.45 * end), (s * 1.0, 0.92 * end)]
            locks.append(pose(a, spline(points)))
    return locks


def beard_paths(a: Attributes) -> list[np.ndarray]:
    """Closed outlines of the moustache and, with a full beard, of the jaw."""
    if a.beard == "none":
        return []
    half = 0.36 + 0.06 * max(0.0, a.smile)
    low = mouth_heights(a)[0] - 0.01
    top = [(-half, low), (-0.16, 0.5), (0, 0.515), (0.16, 0.5), (half, low)]
    moustache = spline([*top, (0.16, 0.585), (0, 0.575), (-0.16, 0.585)], closed=True)
    if a.beard == "moustache":
        return [pose(a, moustache)]
    jaw = [(0.94, 0.2), (0.93, 0.45), (0.84, 0.7), (0.56, 0.97), (0.2, 1.12), (0, 1.13)]
    cheek = [(-0.84, 0.2), (-0.76, 0.42), (-0.5, 0.58), (-0.36, 0.84), (0, 0.83)]
    jaw = spline(jaw + [(-u, v) for u, v in reversed(jaw[:-1])])
    cheek = spline(cheek + [(-u, v) for u, v in reversed(cheek[:-1])])
    return [pose(a, np.concatenate([jaw, cheek])), pose(a, moustache)]


def wrinkle_paths(a: Attributes) -> list[np.ndarray]:
    """Lines of age: forehead, beside the nose, under and beside the eyes."""
    lines = [
        [(-0.42, v), (-0.15, v - 0.03), (0.15, v - 0.02), (0.42, v + 0.01)] for v in (-0.34, -0.44)
    ]
    for s in (-1, 1):
        lines.append([(s * 0.24, 0.4), (s * 0.42, 0.52), (s * 0.47, 0.68)])
        lines.append([(s * 0.24, 0.15), (s * 0.42, 0.2), (s * 0.6, 0.15)])
        lines.append([(s * 0.7, 0.04), (s * 0.82, 0.0)])
        lines.append([(s * 0.7, 0.08), (s * 0.82, 0.1)])
    return [pose(a, spline(line)) for line in lines]


def glasses_paths(a: Attributes) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(outlines of the two lenses, centre lines of bridge and temples)."""
    angle = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    power = 1 - 0.6 * a.frames
    x = np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** power
    y = np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** power
    tall = 0.215 - 0.045 * a.frames
    rims = [pose(a, np.stack([s * 0.43 + 0.3 * x, 0.06 + tall * y], 1)) for s in (-1, 1)]
    lines = [spline([(-0.13, 0.03), (0, -0.01), (0.13, 0.03)])]
    lines += [np.array([(s * 0.73, 0.02), (s * 1.0, 0.0)]) for s in (-1, 1)]
    return rims, [pose(a, line) for line in lines]


def hat_paths(a: Attributes) -> tuple[np.ndarray, np.ndarray]:
    """(crown of the hat, its band or brim) as closed outlines."""
    if a.hat_style == "beanie":
        crown = [(0, -1.4), (0.55, -1.3), (0.98, -0.95), (1.08, -0.5)]
        band = [(0, -0.72), (0.7, -0.67), (1.15, -0.56), (1.13, -0.3), (0.7, -0.4), (0, -0.45)]
    elif a.hat_style == "cap":
        crown = [(0, -1.32), (0.6, -1.22), (0.98, -0.9), (1.06, -0.42)]
        band = [(0, -0.66), (0.6, -0.62), (1.0, -0.46), (1.22, -0.2), (0.75, -0.32), (0, -0.36)]
    else:
        crown = [(0, -1.36), (0.34, -1.42), (0.76, -1.26), (0.92, -0.62)]
        band = [(0, -0.72), (0.9, -0.7), (1.6, -0.66), (1.66, -0.56), (0.9, -0.42), (0, -0.4)]
    top, brim = (pose(a, spline(_mirror(half), closed=True)) for half in (crown, band))
    return top, brim


def collar_paths(a: Attributes) -> list[np.ndarray]:
    """The two flaps of a shirt's collar, or nothing."""
    if a.clothes != "collar":
        return []
    base = (a.x - 0.5) * 0.5 + 0.5
    flap = [(0.0, 0.945), (0.075, 0.905), (0.13, 0.842), (0.165, 0.885), (0.1, 0.985)]
    return [np.array([(base + s * x, y) for x, y in flap], np.float32) for s in (-1, 1)]


def gape_path(a: Attributes, half: float) -> np.ndarray:
    """The opening of a laughing mouth, between the lips; empty where the mouth is closed."""
    half = 0.9 * half * (1 + 0.22 * max(0.0, a.smile))
    corner, middle = mouth_heights(a)
    opened = open_mouth(a)
    top = [(-1, corner), (-0.5, middle - 0.015), (0, middle), (0.5, middle - 0.015), (1, corner)]
    low = [(0.55, middle + 0.75 * opened), (0, middle + 0.06 * a.smile + opened)]
    low += [(-0.55, middle + 0.75 * opened)]
    return pose(a, spline([(half * u, v) for u, v in top + low], closed=True))
