"""Edge smoothing: the twins of cartoons whose clear edges are lost (CartoonGAN, CVPR 2018, Sec. 3.2)."""

from types import ModuleType

import numpy as np

from artifygan_jax.data.prepared import Made, Work
from artifygan_jax.data.transforms import check_size
from artifygan_jax.errors import UserError, did_you_mean

VARIANTS = ("recipe", "deck")


def smoother(size: int | None = None, variant: str = "recipe") -> Work:
    """The work of `prepare smooth`: each picture, stretched to `size` x `size` px, then smoothed.

    "recipe" is the trainers' script step by step: colour and grey are resized apart (OpenCV's
    bilinear, without antialias, as theirs), Canny sees that grey, `smooth` does the rest. The
    shape of the picture is not kept: crop to squares first (`prepare images`), or leave `size` out,
    which keeps the size that the file has. "deck" is `deck_edges` of the stretched colours.
    Raises `UserError` for another size or variant, and where OpenCV is missing.
    """
    check_size(size)
    if variant not in VARIANTS:
        raise UserError(
            f"variant {variant!r}{did_you_mean(variant, VARIANTS)}; allowed are"
            f" {', '.join(VARIANTS)}"
        )
    cv2 = _opencv()

    def work(rgb: np.ndarray, name: str) -> list[Made]:
        grey = file_grey(rgb)
        if size is not None:
            rgb, grey = cv2.resize(rgb, (size, size)), cv2.resize(grey, (size, size))
        return [Made(smooth(rgb, grey) if variant == "recipe" else deck_edges(rgb))]

    return work


def smooth(image: np.ndarray, grey: np.ndarray | None = None) -> np.ndarray:
    """`image` uint8 `[H, W, 3]` RGB with Gaussian-blurred edges, uint8 of the same shape.

    The recipe that the AnimeGAN and CartoonGAN trainers share: Canny 100/200 on the grey picture,
    dilated by 5x5, and there the 5x5 binomial blur (OpenCV's table for that size), border reflected.
    Truncated, not rounded, as theirs. `grey` uint8 `[H, W]` is what Canny sees, where it is not the
    `file_grey` of `image` (the trainers' script resizes a grey copy of its own). Needs OpenCV
    (`artifygan_jax[prepare]`).
    """
    cv2 = _opencv()
    if grey is None:
        grey = file_grey(image)
    edges = cv2.dilate(cv2.Canny(grey, 100, 200), np.ones((5, 5), np.uint8))
    taps = np.array([1, 4, 6, 4, 1]) / 16
    # The blurred values are whole 256ths and OpenCV rounds. Less 127.5/256, the nearest whole number
    # is what truncation gives, and never half-way, in its integer arithmetic as in float.
    blurred = cv2.sepFilter2D(
        image, -1, taps, taps, delta=-127.5 / 256, borderType=cv2.BORDER_REFLECT_101
    )
    return cv2.copyTo(blurred, edges, image.copy())


def deck_edges(image: np.ndarray) -> np.ndarray:
    """What the deck's notebook made of uint8 `[H, W, 3]` RGB: a blurred edge map, white on black.

    Canny 50/150 on the grey picture, then scikit-image's Gaussian (sigma 1.5), uint8 `[H, W, 3]`
    with three equal channels. For repeating that run only: no cartoon looks like this, so that a
    discriminator tells such a set apart at a glance and learns nothing about edges from it. The
    notebook's rounding to bytes is not known; here it is to the nearest. Needs OpenCV and
    scikit-image (`artifygan_jax[prepare]`).
    """
    cv2 = _opencv()
    try:
        from skimage.filters import gaussian
    except ImportError as error:
        raise UserError(
            "the deck's edge maps need scikit-image, which is not installed:"
            " pip install 'artifygan_jax[prepare]'"
        ) from error
    edges = cv2.Canny(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), 50, 150)
    blurred = np.rint(255 * gaussian(edges, sigma=1.5)).astype(np.uint8)
    return np.repeat(blurred[..., None], 3, axis=2)


def file_grey(image: np.ndarray) -> np.ndarray:
    """The grey uint8 `[H, W]` that OpenCV reads from a PNG of these uint8 `[H, W, 3]` RGB pixels.

    libpng's weights, truncated: up to 1 below `cv2.cvtColor`, which moves an edge here and there.
    Of a JPEG OpenCV takes the stored luma, before colours are clipped; on 32 drawings of
    selfie2anime the dilated edges differed by that in 0.5 % of the pixels.
    """
    weights = np.array([9797, 19234, 3737], np.float32) / 2**15
    return (image @ weights).astype(np.uint8)  # 23 bits at most: exact in any order of summation


def _opencv() -> ModuleType:
    try:
        import cv2
    except ImportError as error:
        raise UserError(
            "edge smoothing needs OpenCV, which is not installed: pip install 'artifygan_jax[prepare]'"
        ) from error
    return cv2
