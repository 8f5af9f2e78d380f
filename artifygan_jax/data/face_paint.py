"""Colours on the outlines of `face_shapes`: the photo-like and the cartoon-like painter.

Every outline is covered at four times the size and averaged down (`Canvas.cover`); shading happens
at the size itself. A painter is a list of parts, back to front; a part is one function.
Pictures are float32 [size, size, 3], about 0..1, RGB; masks are float32 [size, size] in 0..1.
"""

import colorsys

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from artifygan_jax.data import face_shapes as shapes
from artifygan_jax.data.face_shapes import Attributes

SUPER = 4  # coverage samples per pixel and axis


class Canvas:
    """A picture under way, with the head coordinates of its pixels and its own random numbers."""

    def __init__(self, a: Attributes, size: int):
        self.size = size
        self.rng = np.random.default_rng(a.texture)
        self.image = np.zeros((size, size, 3), np.float32)
        pixel = (np.arange(size, dtype=np.float32) + 0.5) / size
        self.x, self.y = np.meshgrid(pixel, pixel)
        self.u, self.v = shapes.unpose(a, self.x, self.y)
        self.head = np.zeros((size, size), np.float32)

    def cover(self, *paths: np.ndarray) -> np.ndarray:
        """How much of each pixel the union of the polygons covers; draws in their box alone."""
        mask = np.zeros((self.size, self.size), np.float32)
        if not paths:
            return mask
        points = np.concatenate(paths) * self.size
        low = np.clip(np.floor(points.min(0)), 0, self.size).astype(int)
        high = np.clip(np.ceil(points.max(0)) + 1, 0, self.size).astype(int)
        if (high <= low).any():
            return mask
        box = Image.new("L", tuple((high - low) * SUPER))
        pen = ImageDraw.Draw(box)
        for path in paths:
            pen.polygon(((path * self.size - low) * SUPER - 0.5).ravel().tolist(), fill=255)
        mask[low[1] : high[1], low[0] : high[0]] = np.asarray(box.reduce(SUPER)) / f32(255)
        return mask

    def soft(self, mask: np.ndarray, radius: float) -> np.ndarray:
        """The mask, blurred; radius in picture units."""
        blur = ImageFilter.GaussianBlur(radius * self.size)
        return np.asarray(Image.fromarray(np.uint8(mask * 255)).filter(blur)) / f32(255)

    def noise(self, cells: int) -> np.ndarray:
        """Smooth normal noise with this many cells to a side."""
        grid = Image.fromarray(self.rng.normal(size=(cells, cells)).astype(np.float32))
        return np.asarray(grid.resize((self.size, self.size), Image.Resampling.BICUBIC))

    def paint(self, mask: np.ndarray, colour) -> None:
        """Lay a colour, [3] or [size, size, 3], over the picture."""
        self.image += mask[..., None] * (np.asarray(colour, np.float32) - self.image)

    def shade(self, mask: np.ndarray, strength: float) -> None:
        """Darken; red least, as light does that has been under the skin."""
        self.image *= 1 - mask[..., None] * f32(strength) * f32([0.85, 1.0, 1.05])


def f32(values) -> np.ndarray:
    """Numbers as a float32 array."""
    return np.asarray(values, np.float32)


def _rgb(colour) -> np.ndarray:
    return np.asarray(colour, np.float32) / 255


def _hsv(hue: float, saturation: float, value: float) -> np.ndarray:
    return f32(colorsys.hsv_to_rgb(hue % 1.0, saturation, value))


def _tone(table: np.ndarray, skin: float) -> np.ndarray:
    knots = np.linspace(0, 1, len(table))
    return f32([np.interp(skin, knots, channel) for channel in table.T]) / 255


def _light(a: Attributes) -> np.ndarray:
    direction = f32([0.8 * a.light, -0.5, 0.75])
    return direction / np.linalg.norm(direction)


def _lit(canvas: Canvas, a: Attributes, height: np.ndarray) -> np.ndarray:
    """Diffuse light on a relief given in units of half a face's width."""
    slope_y, slope_x = np.gradient(height, 1 / (shapes.HALF_WIDTH * canvas.size))
    x, y, z = _light(a)
    return np.maximum(0, z - x * slope_x - y * slope_y) / np.sqrt(1 + slope_x**2 + slope_y**2)


# ---- photo ------------------------------------------------------------------------------------


def photo(a: Attributes, size: int) -> np.ndarray:
    """The photo-like picture."""
    canvas = Canvas(a, size)
    _photo_backdrop(canvas, a)
    hair = _photo_hair_tone(canvas, a)
    back, front = shapes.hair_paths(a)
    canvas.paint(canvas.cover(*back), 0.62 * hair)
    _photo_body(canvas, a)
    _photo_face(canvas, a)
    for side in (-1, 1):
        _photo_eye(canvas, a, side)
    _photo_nose(canvas, a)
    _photo_beard(canvas, a, hair)
    _photo_mouth(canvas, a)
    _photo_age(canvas, a)
    _photo_hair(canvas, a, hair, front)
    if a.glasses:
        _photo_glasses(canvas, a)
    if a.hat:
        _photo_hat(canvas, a)
    return _photo_camera(canvas, a)


def _photo_backdrop(canvas: Canvas, a: Attributes) -> None:
    """Out of focus: a slope of light and coarse blots of a second colour."""
    first = _hsv(a.backdrop, 0.26, 0.3 + 0.35 * abs(np.sin(9 * a.backdrop)))
    second = _hsv(a.backdrop + 0.12, 0.16, 0.68)
    blots = np.clip(0.35 + 0.3 * canvas.noise(4) + 0.1 * canvas.noise(8), 0, 1)
    canvas.image += first + blots[..., None] * (second - first)
    canvas.image *= (1 + 0.35 * a.light * (canvas.x - 0.5) - 0.3 * (canvas.y - 0.4))[..., None]


def _photo_body(canvas: Canvas, a: Attributes) -> None:
    """Neck with the chin's shadow, then the clothes with folds."""
    neck, body = shapes.neck_path(a), shapes.body_path(a)
    round_ = np.sqrt(np.maximum(0.05, 1 - ((canvas.x - a.x) / 0.19) ** 2))
    light = 0.4 + 0.6 * _lit(canvas, a, 0.5 * round_)
    covered = canvas.cover(neck)
    canvas.paint(covered, _tone(shapes.SKINS, a.skin) * light[..., None])
    chin = canvas.cover(shapes.head_path(a) + f32([-0.03 * a.light, 0.05]))
    canvas.shade(canvas.soft(chin, 0.02) * covered, 0.5)
    cloth = _hsv(a.clothes_hue, 0.36, 0.22 + 0.5 * abs(np.sin(7 * a.clothes_hue)))
    folds = 0.85 + 0.5 * a.light * (canvas.x - 0.5) - 1.2 * np.maximum(0, canvas.y - 0.93)
    folds = folds + 0.08 * canvas.noise(7) + 0.03 * canvas.noise(60)
    covered = canvas.cover(body)
    canvas.shade(canvas.soft(covered, 0.012), 0.35)
    canvas.paint(covered, cloth * folds[..., None])
    for flap in shapes.collar_paths(a):
        canvas.shade(canvas.soft(canvas.cover(flap + f32([0, 0.012])), 0.008), 0.4)
        canvas.paint(canvas.cover(flap), (0.6 * cloth + 0.36) * folds[..., None])


# (height, |u|, v, spread in u, spread in v) of the bumps on the dome of a face.
_RELIEF = (
    (0.1, 0, 0.12, 0.11, 0.24), (0.1, 0, 0.36, 0.13, 0.11), (0.05, 0.16, 0.41, 0.08, 0.07),
    (0.05, 0.4, -0.15, 0.28, 0.07), (-0.1, 0.38, 0.03, 0.2, 0.1), (0.07, 0.52, 0.3, 0.2, 0.15),
    (0.03, 0, 0.57, 0.22, 0.05), (0.05, 0, 0.72, 0.22, 0.06), (-0.04, 0, 0.8, 0.22, 0.04),
    (0.07, 0, 0.92, 0.2, 0.09),
)  # fmt: skip


def _relief(canvas: Canvas, a: Attributes) -> np.ndarray:
    u, v = canvas.u, canvas.v
    height = 0.8 * np.sqrt(np.maximum(0.04, 1 - 0.9 * u**2 - 0.72 * v**2))
    for rise, at, down, wide, tall in _RELIEF:
        if abs(down - 0.4) < 0.1:
            wide = wide * (0.85 + 0.4 * a.nose)
        for side in (-1, 1) if at else (1,):
            far = ((u - side * at) / wide) ** 2 + ((v - down) / tall) ** 2
            height = height + rise * np.exp(-0.5 * far)
    return height


def _photo_face(canvas: Canvas, a: Attributes) -> None:
    """Ears and head: light on a relief, ruddy cheeks and nose, pores."""
    skin = _tone(shapes.SKINS, a.skin)
    ears = canvas.cover(*shapes.ear_paths(a))
    light = 1 + 0.2 * a.light * canvas.u
    canvas.paint(ears, skin * f32([0.82, 0.7, 0.66]) * light[..., None])
    canvas.head = canvas.cover(shapes.head_path(a))
    light = 0.48 + 0.6 * _lit(canvas, a, _relief(canvas, a))
    ruddy = 0.0
    for at, down, wide in ((-0.5, 0.34, 0.22), (0.5, 0.34, 0.22), (0, 0.38, 0.16)):
        ruddy = ruddy + np.exp(-(((canvas.u - at) / wide) ** 2) - ((canvas.v - down) / 0.16) ** 2)
    colour = skin * (1 - ruddy[..., None] * f32([0.0, 0.13, 0.1]))
    pores = 1 + 0.018 * canvas.noise(40) + 0.02 * canvas.noise(12)
    shine = 0.7 * np.maximum(0, light - 0.97)[..., None]
    colour = colour * (light * pores)[..., None] ** f32([0.85, 1.0, 1.12]) + shine
    canvas.paint(canvas.head, colour)


def _photo_eye(canvas: Canvas, a: Attributes, side: int) -> None:
    tall = 0.085 * (1 - 0.25 * a.age) * (1 - 0.18 * max(0.0, a.smile))
    open_ = canvas.cover(shapes.eye_path(a, side, 0.212, tall))
    canvas.shade(canvas.soft(canvas.cover(shapes.eye_path(a, side, 0.25, 2 * tall)), 0.018), 0.2)
    canvas.paint(open_, [0.9, 0.87, 0.85])
    centre = 0.42 * side + 0.03 * a.turn
    iris = _rgb(shapes.EYES[a.eyes][0])
    disc = canvas.cover(shapes.pose(a, shapes.ellipse(centre, 0.035, 0.108, 0.079)))
    canvas.paint(disc * open_, 0.55 * iris)
    inner = canvas.cover(shapes.pose(a, shapes.ellipse(centre, 0.04, 0.085, 0.062)))
    canvas.paint(inner * open_, iris)
    pupil = canvas.cover(shapes.pose(a, shapes.ellipse(centre, 0.035, 0.045, 0.033)))
    canvas.paint(pupil * open_, [0.03, 0.03, 0.03])
    lid = shapes.lid_path(a, side, 0.218, tall)
    cast = canvas.cover(shapes.stroke(lid + f32([0, 0.006]), 0.016))
    canvas.shade(canvas.soft(cast, 0.005) * open_, 0.6)
    glint = shapes.pose(a, shapes.ellipse(centre + 0.035 * np.sign(a.light), 0.015, 0.024, 0.017))
    canvas.paint(canvas.cover(glint) * open_, [1, 1, 1])
    canvas.paint(canvas.cover(shapes.stroke(lid, 0.01 + 0.007 * a.makeup)), [0.13, 0.09, 0.08])
    crease = shapes.lid_path(a, side, 0.22, 1.75 * tall)
    canvas.shade(canvas.cover(shapes.stroke(crease, 0.008)), 0.3)
    brow = shapes.stroke(shapes.brow_path(a, side, -0.15), 0.014 + 0.014 * a.brows)
    hair = _rgb(shapes.HAIR[a.hair][0])
    canvas.paint(canvas.soft(canvas.cover(brow), 0.004) * 0.85, 0.6 * hair)


def _photo_nose(canvas: Canvas, a: Attributes) -> None:
    wide = 0.11 + 0.04 * a.nose
    holes = [shapes.pose(a, shapes.ellipse(s * wide, 0.445, 0.055, 0.022)) for s in (-1, 1)]
    canvas.shade(canvas.soft(canvas.cover(*holes), 0.005), 0.5)
    under = shapes.pose(a, shapes.ellipse(-0.08 * a.light, 0.5, 0.2, 0.04))
    canvas.shade(canvas.soft(canvas.cover(under), 0.014), 0.12)


def _photo_mouth(canvas: Canvas, a: Attributes) -> None:
    upper, line, lower = shapes.mouth_paths(a, 0.34)
    skin = _tone(shapes.SKINS, a.skin)
    lip = skin * f32([0.86, 0.58, 0.56])
    lip = lip + 0.8 * a.makeup * (f32([0.68, 0.16, 0.2]) - lip)
    lips = canvas.cover(np.concatenate([upper, lower[::-1]]))
    relief = 0.85 + 0.5 * (canvas.v - 0.64)
    canvas.paint(canvas.soft(lips, 0.003), lip * relief[..., None])
    top = canvas.cover(np.concatenate([upper, line[::-1]]))
    canvas.shade(top, 0.22)
    opened = shapes.open_mouth(a)
    if opened > 0:
        gape = shapes.gape_path(a, 0.34)
        inside = canvas.cover(gape)
        canvas.paint(inside, [0.22, 0.07, 0.07])
        teeth = canvas.cover(gape - f32([0, 0.3 * opened * shapes.HALF_HEIGHT]))
        canvas.paint(inside * teeth, f32([0.93, 0.91, 0.86]) * (1.03 - 0.1 * a.age))
    else:
        canvas.shade(canvas.cover(shapes.stroke(line, 0.011)), 0.72)
    shine = shapes.pose(a, shapes.ellipse(0.05 * a.light, 0.7 + opened, 0.1, 0.015))
    canvas.paint(canvas.soft(canvas.cover(shine), 0.006) * 0.25, [1, 0.95, 0.92])


def _photo_age(canvas: Canvas, a: Attributes) -> None:
    lines = canvas.cover(*(shapes.stroke(path, 0.011) for path in shapes.wrinkle_paths(a)))
    canvas.shade(canvas.soft(lines, 0.003) * canvas.head, 0.9 * max(0.0, a.age - 0.3))


def _photo_beard(canvas: Canvas, a: Attributes, hair: np.ndarray) -> None:
    covered = canvas.soft(canvas.cover(*shapes.beard_paths(a)), 0.008)
    canvas.paint(0.85 * covered, 0.75 * hair * (1 + 0.12 * canvas.noise(90))[..., None])


def _photo_hair_tone(canvas: Canvas, a: Attributes) -> np.ndarray:
    """Colour of hair everywhere: strands fan out from the parting, a band of sheen around it."""
    base = _rgb(shapes.HAIR[a.hair][0])
    base = base + 0.8 * max(0.0, a.age - 0.6) * (0.62 - base)
    du, dv = canvas.u - 0.4 * a.part, canvas.v + 1.35
    far = np.hypot(du, dv)
    angle = np.arctan2(du, dv) + 0.04 * np.sin(5 * far + 6 * a.part)
    locks, strands = (
        np.interp(angle, np.linspace(-np.pi, np.pi, n), canvas.rng.normal(size=n), period=2 * np.pi)
        for n in (90, 320)
    )
    if a.style == "curly":
        locks, strands = (1.1 - 1.8 * np.abs(canvas.noise(n)) for n in (20, 34))
    dome = np.sqrt(np.maximum(0.05, 1 - 0.55 * canvas.u**2 - 0.4 * canvas.v**2))
    light = 0.5 + 0.6 * _lit(canvas, a, dome)
    tone = light * (1 + 0.11 * locks + 0.11 * strands)
    ring = np.exp(-(((np.hypot(canvas.u, canvas.v + 0.1) - 0.84) / 0.1) ** 2)) * (canvas.v < 0)
    sheen = 0.22 * ring * np.clip(0.5 + 0.4 * strands, 0, 1) * light
    return base * tone[..., None] + sheen[..., None] * (0.5 * base + 0.5)


def _photo_hair(canvas: Canvas, a: Attributes, hair: np.ndarray, front: list) -> None:
    """Front hair with its shadow on the face and single strands across its edge."""
    covered = canvas.cover(*front)
    cast = canvas.cover(*(path + f32([-0.02 * a.light, 0.022]) for path in front))
    canvas.shade(canvas.soft(cast, 0.012) * canvas.head, 0.38)
    strays = []
    for path in front:
        for start in canvas.rng.integers(0, len(path) - 8, 10):
            drift = canvas.rng.normal(scale=0.007, size=2).astype(np.float32)
            strays.append(shapes.stroke(path[start : start + 8] + drift, 0.006))
    canvas.paint(np.maximum(covered, 0.6 * canvas.cover(*strays)), hair)


def _photo_glasses(canvas: Canvas, a: Attributes) -> None:
    rims, lines = shapes.glasses_paths(a)
    strokes = [shapes.stroke(rim, 0.014, closed=True) for rim in rims]
    strokes += [shapes.stroke(line, 0.014) for line in lines]
    frame = canvas.cover(*strokes)
    lens = canvas.cover(*rims)
    cast = canvas.cover(*(path + f32([0, 0.014]) for path in strokes))
    canvas.shade(canvas.soft(cast, 0.006), 0.3)
    glare = np.clip(0.5 - 4 * np.abs(canvas.u % 0.86 - 0.3 + 0.8 * canvas.v), 0, 1)
    canvas.paint(lens * (0.06 + 0.22 * glare), [0.93, 0.96, 1.0])
    canvas.paint(frame, _hsv(a.hat_hue, 0.35, 0.16))


def _photo_hat(canvas: Canvas, a: Attributes) -> None:
    crown, band = shapes.hat_paths(a)
    cloth = _hsv(a.hat_hue, 0.5, 0.3 + 0.35 * abs(np.sin(8 * a.hat_hue)))
    dome = np.sqrt(np.maximum(0.05, 1 - 0.6 * canvas.u**2 - 0.35 * (canvas.v + 0.4) ** 2))
    light = 0.35 + 0.75 * _lit(canvas, a, dome)
    light = light * (1 + 0.03 * canvas.noise(80) + 0.03 * canvas.noise(12))
    if a.hat_style == "beanie":
        light = light * (1 + 0.09 * np.sin(34 * canvas.u / dome))
    cast = canvas.cover(band + f32([-0.02 * a.light, 0.035]))
    canvas.shade(canvas.soft(cast, 0.012) * canvas.head, 0.45)
    canvas.paint(canvas.cover(crown), cloth * light[..., None])
    canvas.shade(canvas.soft(canvas.cover(band), 0.01) * canvas.cover(crown), 0.4)
    canvas.paint(canvas.cover(band), 0.72 * cloth * light[..., None])


def _photo_camera(canvas: Canvas, a: Attributes) -> np.ndarray:
    """White balance, vignette and sensor noise."""
    cast = 1.07 + 0.05 * np.sin(2 * np.pi * (a.backdrop + f32([0.0, 0.33, 0.67])))
    vignette = 1 - 0.35 * ((canvas.x - 0.5) ** 2 + (canvas.y - 0.5) ** 2)
    rng = np.random.default_rng([a.texture, 1])  # its own: no attribute moves the noise
    grey = rng.normal(size=(canvas.size, canvas.size, 1))
    colour = rng.normal(size=canvas.image.shape)
    return canvas.image * cast * vignette[..., None] + 0.014 * grey + 0.01 * colour


# ---- cartoon ----------------------------------------------------------------------------------


def cartoon(a: Attributes, size: int) -> np.ndarray:
    """The cartoon-like picture."""
    canvas = Canvas(a, size)
    hair = _rgb(shapes.HAIR[a.hair][1])
    back, front = shapes.hair_paths(a)
    _cartoon_backdrop(canvas, a)
    for path in back:
        _cel(canvas, a, path, 0.72 * hair, 0.72 * hair)
    _cartoon_body(canvas, a)
    _cartoon_face(canvas, a)
    for side in (-1, 1):
        _cartoon_eye(canvas, a, side)
    _cartoon_beard(canvas, a, hair)
    _cartoon_nose_mouth(canvas, a)
    _cartoon_hair(canvas, a, hair, front)
    if a.glasses:
        _cartoon_glasses(canvas, a)
    if a.hat:
        _cartoon_hat(canvas, a)
    return canvas.image


def _ink(canvas: Canvas, *strokes: np.ndarray) -> None:
    canvas.paint(canvas.cover(*strokes), shapes.INK)


def _cel(canvas: Canvas, a: Attributes, path: np.ndarray, colour, shadow) -> np.ndarray:
    """A flat shape, the side away from the light in the shadow's tone, an ink line around it."""
    covered = canvas.cover(path)
    side = 0.03 * (1 if a.light > 0 else -1)
    lit = canvas.cover(path + f32([side, -0.012]))
    canvas.paint(covered, shadow)
    canvas.paint(covered * lit, colour)
    _ink(canvas, shapes.stroke(path, 0.014, closed=True))
    return covered


def _shadow(colour: np.ndarray) -> np.ndarray:
    """The second tone of a flat colour: darker, towards violet."""
    return colour * f32([0.78, 0.68, 0.76])


def _cartoon_backdrop(canvas: Canvas, a: Attributes) -> None:
    canvas.image += _hsv(a.backdrop, 0.22, 0.97)
    disc = shapes.ellipse(0.5 + 0.3 * a.light, 0.42, 0.42, 0.42, steps=60).astype(np.float32)
    canvas.paint(canvas.cover(disc), _hsv(a.backdrop + 0.04, 0.36, 0.95))


def _cartoon_body(canvas: Canvas, a: Attributes) -> None:
    skin = _tone(shapes.CARTOON_SKINS, a.skin)
    covered = _cel(canvas, a, shapes.neck_path(a), skin, _shadow(skin))
    chin = canvas.cover(shapes.head_path(a, cartoon=True) + f32([0, 0.035]))
    canvas.paint(chin * covered, _shadow(skin))
    cloth = _hsv(a.clothes_hue, 0.62, 0.86)
    _cel(canvas, a, shapes.body_path(a), cloth, _shadow(cloth))
    for flap in shapes.collar_paths(a):
        _cel(canvas, a, flap, 0.4 * cloth + 0.58, 0.4 * cloth + 0.58)


def _cartoon_face(canvas: Canvas, a: Attributes) -> None:
    skin = _tone(shapes.CARTOON_SKINS, a.skin)
    for ear in shapes.ear_paths(a):
        _cel(canvas, a, ear, skin, _shadow(skin))
    canvas.head = _cel(canvas, a, shapes.head_path(a, cartoon=True), skin, _shadow(skin))
    blush = [shapes.pose(a, shapes.ellipse(s * 0.56, 0.38, 0.17, 0.07)) for s in (-1, 1)]
    canvas.paint(0.75 * canvas.cover(*blush), skin * f32([1.0, 0.78, 0.76]))
    if a.age > 0.45:
        lines = canvas.cover(*(shapes.stroke(path, 0.009) for path in shapes.wrinkle_paths(a)))
        canvas.paint(lines * canvas.head, 0.6 * _shadow(skin))


def _cartoon_eye(canvas: Canvas, a: Attributes, side: int) -> None:
    """Larger than life: two tones of iris, pupil, two highlights, a heavy upper lid."""
    tall = 0.165 * (1 - 0.3 * a.age) * (1 - 0.12 * max(0.0, a.smile))
    open_ = canvas.cover(shapes.eye_path(a, side, 0.26, tall))
    canvas.paint(open_, [1, 1, 1])
    centre = 0.41 * side + 0.03 * a.turn
    iris = _rgb(shapes.EYES[a.eyes][1])
    disc = shapes.pose(a, shapes.ellipse(centre, 0.04, 0.17, 0.15))
    canvas.paint(canvas.cover(disc) * open_, 0.5 * iris)
    low = shapes.pose(a, shapes.ellipse(centre, 0.09, 0.135, 0.095))
    canvas.paint(canvas.cover(low) * open_, iris)
    pupil = shapes.pose(a, shapes.ellipse(centre, 0.035, 0.07, 0.066))
    canvas.paint(canvas.cover(pupil) * open_, 0.5 * shapes.INK)
    glint = np.sign(a.light) or 1.0
    glints = [shapes.ellipse(centre + 0.065 * glint, -0.025, 0.06, 0.046)]
    glints += [shapes.ellipse(centre - 0.065 * glint, 0.11, 0.034, 0.026)]
    canvas.paint(canvas.cover(*(shapes.pose(a, path) for path in glints)) * open_, [1, 1, 1])
    lid = shapes.lid_path(a, side, 0.268, tall)
    _ink(canvas, shapes.stroke(lid, 0.019 + 0.009 * a.makeup))
    brow = shapes.stroke(shapes.brow_path(a, side, -0.225), 0.013 + 0.014 * a.brows)
    canvas.paint(canvas.cover(brow), 0.45 * _rgb(shapes.HAIR[a.hair][1]) + 0.25 * shapes.INK)


def _cartoon_beard(canvas: Canvas, a: Attributes, hair: np.ndarray) -> None:
    for path in shapes.beard_paths(a):
        _cel(canvas, a, path, 0.9 * hair, _shadow(0.9 * hair))


def _cartoon_nose_mouth(canvas: Canvas, a: Attributes) -> None:
    away = -1 if a.light > 0 else 1
    wide = 0.08 + 0.06 * a.nose
    shadow = [(0.02 * away, 0.22), (away * wide, 0.42), (-0.3 * away * wide, 0.45)]
    skin = _tone(shapes.CARTOON_SKINS, a.skin)
    canvas.paint(canvas.cover(shapes.pose(a, shadow)), _shadow(skin))
    tip = [(-away * 0.6 * wide, 0.44), (0.2 * away * wide, 0.465), (away * wide, 0.42)]
    _ink(canvas, shapes.stroke(shapes.pose(a, shapes.spline(tip)), 0.012))
    upper, line, lower = shapes.mouth_paths(a, 0.32)
    lip = skin * f32([0.95, 0.66, 0.66])
    lip = lip + a.makeup * (f32([0.9, 0.25, 0.33]) - lip)
    canvas.paint(canvas.cover(np.concatenate([upper, lower[::-1]])), lip)
    opened = shapes.open_mouth(a)
    if opened > 0:
        gape = shapes.gape_path(a, 0.32)
        inside = canvas.cover(gape)
        canvas.paint(inside, [0.55, 0.14, 0.2])
        teeth = canvas.cover(gape - f32([0, 0.35 * opened * shapes.HALF_HEIGHT]))
        canvas.paint(inside * teeth, [1, 1, 1])
        _ink(canvas, shapes.stroke(gape, 0.01, closed=True))
    _ink(canvas, shapes.stroke(line if opened == 0 else upper, 0.013))


def _cartoon_hair(canvas: Canvas, a: Attributes, hair: np.ndarray, front: list) -> None:
    """Front hair in three tones: shadow, colour, a ring of light broken by the locks."""
    skin = _tone(shapes.CARTOON_SKINS, a.skin)
    for path in front:
        cast = canvas.cover(path + f32([0, 0.022])) * canvas.head
        canvas.paint(cast * (canvas.v < 0.0), _shadow(skin))
    for path in front:
        covered = _cel(canvas, a, path, hair, _shadow(hair))
        ring = np.abs(np.hypot(canvas.u, canvas.v + 0.1) - 0.86)
        ring = ring + 0.06 * np.abs(np.sin(8 * canvas.u + 6 * a.part))
        shine = np.clip((0.075 - ring) * 0.25 * canvas.size, 0, 1) * (canvas.v < -0.2)
        if a.style != "bald":
            canvas.paint(covered * shine, hair + 0.5 * (1 - hair))
    locks = [shapes.stroke(path, 0.01) for path in shapes.lock_paths(a)]
    covered = canvas.cover(*front)
    canvas.paint(canvas.cover(*locks) * covered, 0.55 * _shadow(hair))
    _ink(canvas, *(shapes.stroke(path, 0.014, closed=True) for path in front))


def _cartoon_glasses(canvas: Canvas, a: Attributes) -> None:
    rims, lines = shapes.glasses_paths(a)
    lens = canvas.cover(*rims)
    glint = 0.05 - np.abs(canvas.u % 0.86 - 0.3 + 0.8 * canvas.v)
    canvas.paint(lens * (0.1 + 0.5 * np.clip(glint * 0.2 * canvas.size, 0, 1)), [1, 1, 1])
    strokes = [shapes.stroke(rim, 0.02, closed=True) for rim in rims]
    strokes += [shapes.stroke(line, 0.02) for line in lines]
    canvas.paint(canvas.cover(*strokes), _hsv(a.hat_hue, 0.75, 0.34))


def _cartoon_hat(canvas: Canvas, a: Attributes) -> None:
    crown, band = shapes.hat_paths(a)
    cloth = _hsv(a.hat_hue, 0.68, 0.88)
    cast = canvas.cover(band + f32([0, 0.03])) * canvas.head
    canvas.paint(cast, _shadow(_tone(shapes.CARTOON_SKINS, a.skin)))
    _cel(canvas, a, crown, cloth, _shadow(cloth))
    second = cloth if a.hat_style == "brim" else _hsv(a.hat_hue + 0.08, 0.6, 0.98)
    _cel(canvas, a, band, second, _shadow(second))
