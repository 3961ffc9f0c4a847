"""Masks from images and stacks of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def read_mask(path: Path, threshold: float | None, fluid: str) -> np.ndarray:
    """Return where there is fluid, as `GridPoisson.from_image` says; rows of an image are the first axis."""
    if fluid not in ("dark", "bright"):
        raise ValueError(f"fluid={fluid!r} should be 'dark' or 'bright'")
    if path.suffix.lower() in (".tif", ".tiff"):
        import tifffile

        grey = tifffile.imread(path)
    else:
        from PIL import Image

        with Image.open(path) as image:
            grey = np.asarray(image.convert("L"))
    if grey.ndim not in (2, 3) or grey.shape[-1] in (3, 4):
        raise ValueError(f"{path} has shape {grey.shape}: expected a grey image, or a stack of them")
    if threshold is None:
        threshold = (float(grey.min()) + float(grey.max())) / 2
    return grey <= threshold if fluid == "dark" else grey > threshold
