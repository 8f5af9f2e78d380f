"""Edge smoothing: the twins of cartoons whose clear edges are lost (CartoonGAN, CVPR 2018, Sec. 3.2)."""

import numpy as np

from artifygan_jax.errors import UserError


def smooth(image: np.ndarray, grey: np.ndarray | None = None) -> np.ndarray:
    """`image` uint8 `[H, W, 3]` RGB with Gaussian-blurred edges, uint8 of the same shape.

    The recipe that the AnimeGAN and CartoonGAN trainers share: Canny 100/200 on the grey picture,
    dilated by 5x5, and there the 5x5 binomial blur (OpenCV's table for that size), border reflected.
    Truncated, not rounded, as theirs. `grey` uint8 `[H, W]` is what Canny sees, where it is not the
    grey of `image` (the trainers' script resizes a grey copy of its own). Needs OpenCV
    (`artifygan_jax[prepare]`).
    """
    try:
        import cv2
    except ImportError as error:
        raise UserError(
            "edge smoothing needs OpenCV, which is not installed: pip install 'artifygan_jax[prepare]'"
        ) from error
    if grey is None:
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    edges = cv2.dilate(cv2.Canny(grey, 100, 200), np.ones((5, 5), np.uint8))
    taps = np.array([1, 4, 6, 4, 1], np.float64) / 16
    blurred = cv2.sepFilter2D(
        image.astype(np.float64), -1, taps, taps, borderType=cv2.BORDER_REFLECT_101
    )
    return np.where(edges[..., None] > 0, blurred.astype(np.uint8), image)
