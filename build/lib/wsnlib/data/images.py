"""One image file, in 8 bits."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from wsnlib.data.splits import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

GRAY = ("1", "L", "LA", "La")
COLOUR = ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")
"""Pillow's modes of 8 bits a channel."""

SIXTEEN_BITS = {
    "PNG": ("I;16", "I;16B", "I"),
    "TIFF": ("I;16", "I;16L", "I;16B", "I;16N"),
    "PPM": ("I",),
    "JPEG2000": ("I;16",),
}
"""Formats, and the modes in which Pillow gives their gray images of 16 bits; others hold any range."""

BITS, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339  # tags of a TIFF


class Decoded(NamedTuple):
    """An image in 8 bits, of mode L or RGB, and what of its file is not in it.

    `highest` is the highest value of an image of 16 bits a channel, of which the upper 8 are kept.
    """

    image: Image
    lost: tuple[str, ...] = ()
    highest: int | None = None


def read_image(path: Path) -> Image:
    """The decoded image in RGB, as [`decode`][wsnlib.data.images.decode] gives it."""
    return decode(path).image.convert("RGB")


def decode(path: Path) -> Decoded:
    """The first image of a file, as its pixels are stored (EXIF's orientation does not turn it).

    Gray stays gray; palettes, CMYK and all other colours become RGB, transparency is dropped, both as
    torchvision does it. Of 16 bits the upper 8 are kept.

    Args:
        path: Of any format that Pillow knows, whatever the name says.

    Raises:
        DataError: If it is cut off, no image, of numbers whose range its mode does not fix (such as
            32 bits), or drawn in its transparency alone.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="PIL")  # odd metadata do not touch the pixels
            with Image.open(path) as file:
                return _in_8_bits(file)
    except Exception as error:  # Pillow raises what the decoder raises
        raise DataError(f"{path} cannot be read as an image ({error})") from error


def _in_8_bits(file: Image) -> Decoded:
    from PIL import Image

    kind, tags = file.format or "", getattr(file, "tag_v2", {})
    signed = 2 in tags.get(SAMPLE_FORMAT, ())
    gray = not signed and file.mode in SIXTEEN_BITS.get(kind, ())
    if not gray and (signed or file.mode not in GRAY + COLOUR):
        raise ValueError(
            "it must have 8 bits a channel, or be gray of 16, which start at 0, got Pillow's mode "
            f"{file.mode} in the format {kind}{', signed' * signed}; scale it to 8 bits, or pack arrays"
        )
    lost = ["all frames but the first"] if getattr(file, "n_frames", 1) > 1 else []
    deep = gray or any(";16" in str(tile[3]) for tile in getattr(file, "tile", ()))
    if deep:
        lost.append("the lower 8 of 16 bits")
    if gray:
        values = np.asarray(file).astype(np.int64) << 16 - tags.get(BITS, (16,))[0]  # some have 12
        if tags.get(PHOTOMETRIC) == 0:  # white is 0, which Pillow minds for 8 bits only
            values = 65535 - values
        return Decoded(Image.fromarray((values >> 8).astype(np.uint8)), tuple(lost), int(values.max()))
    if file.has_transparency_data:
        lost += _transparency(file)
    opaque = file.convert("LA") if file.mode == "La" else file
    image = opaque.convert("L" if file.mode in GRAY else "RGB")
    return Decoded(image, tuple(lost), 256 * int(np.asarray(image).max()) + 255 if deep else None)


def _transparency(file: Image) -> list[str]:
    """What dropping transparency loses; an image that is nothing else is refused."""
    pixels = np.asarray((file.convert("LA") if file.mode in GRAY else file).convert("RGBA"))
    varies = [channel.min() < channel.max() for channel in np.moveaxis(pixels, 2, 0)]
    if varies == [False, False, False, True]:
        raise ValueError(
            f"without transparency it must have more than one colour, got Pillow's mode {file.mode} with all "
            "of it in the transparency; put it on a background"
        )
    if (pixels[..., 3] == 255).all():
        return []
    return ["transparency"]
