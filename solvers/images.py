"""Masks from images and stacks of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def read_mask(path: Path, threshold: float | None, fluid: str) -> np.ndarray:
    """Return where there is fluid, as `GridPoisson.from_image` says; rows of an image are the first axis."""
    if fluid not in ("dark", "bright"):
        raise ValueError(f"fluid={fluid!r} should be 'dark' or 'bright'")
    from PIL import Image, ImageSequence

    with Image.open(path) as image:
        pages = [
            np.asarray(page.convert("L") if page.mode in ("1", "P") else page)
            for page in ImageSequence.Iterator(image)
        ]
    if len({page.shape for page in pages}) > 1:
        raise ValueError(f"{path} has pages of different sizes")
    grey = np.stack(pages) if len(pages) > 1 else pages[0]
    if grey.ndim not in (2, 3) or grey.shape[-1] in (3, 4):
        raise ValueError(f"{path} has shape {grey.shape}: expected a grey image, or a stack of them")
    if threshold is None:
        threshold = (float(grey.min()) + float(grey.max())) / 2
    return grey <= threshold if fluid == "dark" else grey > threshold
