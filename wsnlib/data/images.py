"""One image file."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wsnlib.data.splits import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
"""Pillow's modes of gray images of 16 bits."""

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".pgm", ".ppm"})
"""Names that end so, in any case, are images; what format a file has, its content says."""


def is_image(name: str) -> bool:
    """Whether a file of that name is taken for an image; hidden files are not.

    Examples:
        >>> is_image("n01440764_18.JPEG"), is_image(".DS_Store"), is_image("._n01440764_18.JPEG")
        (True, False, False)
    """
    return not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES


def read_image(path: Path, *, keep_gray: bool = False) -> Image:
    """The decoded image in RGB, as its pixels are stored (EXIF's orientation does not turn it).

    Args:
        path: Of any format that Pillow knows, whatever the name says; CMYK, palettes and
            transparency become RGB.
        keep_gray: Whether a gray image stays one; of 16 bits the upper 8 are kept.

    Raises:
        DataError: If it is cut off, or no image.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="PIL")  # odd metadata do not touch the pixels
            with Image.open(path) as file:
                gray = keep_gray and file.mode in ("1", "L", *SIXTEEN_BITS)
                eight = _high_byte(file) if file.mode in SIXTEEN_BITS else file
                return eight.convert("L" if gray else "RGB")
    except Exception as error:  # Pillow raises what the decoder raises
        raise DataError(f"{path} cannot be read as an image ({error})") from error


def _high_byte(file: Image) -> Image:
    """A gray image of 16 bits in 8; Pillow's own conversion makes all above 255 white."""
    from PIL import Image

    return Image.fromarray((np.asarray(file) >> 8).astype(np.uint8))
