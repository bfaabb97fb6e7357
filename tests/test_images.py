"""One image file: every mode of Pillow in 8 bits, rightly or not at all."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms
from torchvision.datasets.folder import default_loader

import wsnlib as wsn
from wsnlib.data.images import decode, read_image

RNG = np.random.default_rng(0)
COLOURS = Image.fromarray(RNG.integers(0, 256, (3, 5, 4), dtype=np.uint8)).resize((13, 11))
OPAQUE = COLOURS.convert("RGB")
WIDE = RNG.integers(0, 65536, (11, 13), dtype=np.uint16)


def in_mode(mode: str) -> Image.Image:
    """The same colours, or their gray, in another mode."""
    if mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        return ImageCms.profileToProfile(OPAQUE, *profiles, outputMode="LAB")
    if mode in ("P", "PA"):
        return OPAQUE.quantize(256).convert(mode)
    through = {"La": "LA", "RGBa": "RGBA"}.get(mode, mode)
    return (COLOURS if through in ("LA", "RGBA") else OPAQUE).convert(through).convert(mode)


def tiff(bits: int, content: bytes, *, photometric: int = 1, kind: int = 1, order: str = "<") -> bytes:
    """A gray TIFF of 13 x 11 pixels whose numbers are unsigned (kind 1), signed (2) or floats (3)."""
    tags = {256: 13, 257: 11, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: 11}
    tags |= {279: len(content), 339: kind}
    entries = b"".join(
        struct.pack(f"{order}HHI", tag, 4, 1) + struct.pack(f"{order}I", v) for tag, v in tags.items()
    )
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8 + len(content))
    return head + content + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)


def twelve_bits(values: np.ndarray) -> bytes:
    """Two numbers in three bytes; each row starts anew."""
    rows = ["".join(f"{v:012b}" for v in row) for row in values]
    return b"".join(int(row.ljust(160, "0"), 2).to_bytes(20, "big") for row in rows)


GRAY, PALETTE = {"1", "L", "LA", "La"}, {"P", "PA"}
COLOUR = {"RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"} | PALETTE


@pytest.mark.parametrize("mode", sorted(GRAY | COLOUR))
def test_every_mode_of_8_bits_keeps_its_colours(mode, tmp_path, monkeypatch):
    image = in_mode(mode)
    assert image.mode == mode
    image.format = "any"
    monkeypatch.setattr(Image, "open", lambda _: image)
    found = decode(tmp_path / "a.png").image
    assert found.mode == ("L" if mode in GRAY else "RGB")
    right = OPAQUE.convert("1" if mode == "1" else found.mode).convert(found.mode)
    error = np.abs(np.asarray(found, dtype=int) - np.asarray(right, dtype=int))
    loss = {"P": 12, "PA": 12, "LAB": 4, "HSV": 4, "YCbCr": 4, "La": 4, "RGBa": 4}.get(
        mode, 1
    )  # rounding of the mode
    assert error.mean() <= loss


@pytest.mark.parametrize(
    ("mode", "kind"),
    [(m, "TIFF") for m in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB")]
    + [(m, "PNG") for m in ("1", "L", "LA", "P", "RGB", "RGBA")]
    + [("L", "GIF"), ("P", "GIF"), ("CMYK", "JPEG"), ("L", "JPEG"), ("RGBA", "WEBP"), ("1", "PPM")]
    + [("LA", "JPEG2000"), ("P", "BMP"), ("RGB", "PPM")],
)
def test_a_file_of_8_bits_is_what_torchvision_makes_of_it(mode, kind, tmp_path):
    path = tmp_path / "a.png"  # its content says what it is
    in_mode(mode).save(path, format=kind)
    right = np.asarray(default_loader(str(path)))
    assert np.array_equal(np.asarray(read_image(path)), right)
    assert np.array_equal(np.asarray(decode(path).image.convert("RGB")), right)


def test_palettes_with_transparency_keep_the_colours_of_the_palette(tmp_path):
    palette = OPAQUE.quantize(7)
    palette.save(tmp_path / "a.png", transparency=bytes([0, 99, 255]))
    found = decode(tmp_path / "a.png")
    assert np.array_equal(np.asarray(found.image), np.asarray(palette.convert("RGB")))
    assert found.lost == ("transparency",)


SIXTEEN = {
    "raw.pgm": b"P5 13 11 65535\n" + WIDE.astype(">u2").tobytes(),
    "plain.pgm": b"P2 13 11 65535\n" + " ".join(map(str, WIDE.flatten())).encode(),
    "little.tif": tiff(16, WIDE.astype("<u2").tobytes()),
    "big.tif": tiff(16, WIDE.astype(">u2").tobytes(), order=">"),
    "white_is_0.tif": tiff(16, (65535 - WIDE).astype("<u2").tobytes(), photometric=0),
}
FEWER = {
    "ten.pgm": (1023, b"P5 13 11 1023\n" + (WIDE >> 6).astype(">u2").tobytes()),
    "plain_ten.pgm": (1023, b"P2 13 11 1023\n" + " ".join(map(str, (WIDE >> 6).flatten())).encode()),
    "twelve.tif": (4095, tiff(12, twelve_bits(WIDE >> 4))),
}


@pytest.mark.parametrize("name", [*SIXTEEN, "a.png", "a.jp2", "big_endian_mode.tif"])
def test_gray_files_of_16_bits_keep_the_upper_8(name, tmp_path):
    path = tmp_path / name
    if name in SIXTEEN:
        path.write_bytes(SIXTEEN[name])
    else:
        values = WIDE.astype(">u2") if name.startswith("big") else WIDE
        Image.fromarray(values).save(path, **({"irreversible": False} if name.endswith("jp2") else {}))
    found = decode(path)
    assert np.array_equal(np.asarray(found.image), WIDE >> 8)
    assert (found.highest, found.lost) == (WIDE.max(), ("the lower 8 of 16 bits",))


@pytest.mark.parametrize("name", FEWER)
def test_of_10_or_12_bits_the_highest_value_is_white(name, tmp_path):
    most, content = FEWER[name]
    (tmp_path / name).write_bytes(content)
    right = (WIDE >> (16 - most.bit_length())) * (255 / most)
    assert np.abs(np.asarray(decode(tmp_path / name).image) - right).max() <= 1


def png(mode: int, channels: np.ndarray) -> bytes:
    """A PNG of 16 bits in gray and alpha (mode 4), colour (2) or colour and alpha (6)."""
    height, width, _ = channels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in channels)
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 16, mode, 0, 0, 0),
        b"IDAT": zlib.compress(rows),
    }
    parts = [
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in (chunks | {b"IEND": b""}).items()
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(("mode", "channels"), [(4, 2), (2, 3), (6, 4)])
def test_colours_of_16_bits_keep_the_upper_8_and_say_how_far_they_go(mode, channels, tmp_path):
    values = RNG.integers(0, 65536, (11, 13, channels))
    (tmp_path / "a.png").write_bytes(png(mode, values))
    found = decode(tmp_path / "a.png")
    colours = values[..., :-1] if mode > 3 else values
    assert np.array_equal(np.asarray(found.image), np.broadcast_to(colours >> 8, (11, 13, 3)))
    assert found.highest == colours.max() | 255
    assert found.lost == ("the lower 8 of 16 bits", "transparency")[: 1 + (mode > 3)]


REFUSED = {
    "float.tif": ("F", tiff(32, WIDE.astype("<f4").tobytes(), kind=3)),
    "integer.tif": ("I", tiff(32, WIDE.astype("<u4").tobytes())),
    "signed_32.tif": ("I", tiff(32, WIDE.astype(">i4").tobytes(), kind=2, order=">")),
    "signed_16.tif": ("I", tiff(16, WIDE.view("i2").tobytes(), kind=2)),
    "signed_8.tif": ("L", tiff(8, bytes(range(143)), kind=2)),
    "float.pfm": ("F", b"Pf\n13 11\n-1.0\n" + WIDE.astype("<f4").tobytes()),
}


@pytest.mark.parametrize("name", REFUSED)
def test_numbers_whose_range_nothing_says_are_refused_by_file_and_mode(name, tmp_path):
    mode, content = REFUSED[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(
        wsn.DataError, match=rf"{name} cannot be read .*got Pillow's mode {mode} in the format"
    ):
        decode(tmp_path / name)


@pytest.mark.parametrize("mode", ["I", "F", "I;16", "I;16B", "I;16L", "I;16N"])
def test_a_format_that_holds_any_numbers_is_refused_by_its_mode(mode, tmp_path, monkeypatch):
    image = Image.new(mode, (13, 11))
    image.format = "FITS"
    monkeypatch.setattr(Image, "open", lambda _: image)
    with pytest.raises(wsn.DataError, match=rf"a\.tif cannot .*got Pillow's mode {mode} in the format FITS"):
        decode(tmp_path / "a.tif")


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P"])
def test_an_image_that_is_all_transparency_is_refused(mode, tmp_path):
    drawn = Image.new("RGBA", (13, 11))
    drawn.putalpha(OPAQUE.convert("L"))
    if mode == "P":
        drawn = Image.new("P", (13, 11))
        drawn.putpixel((3, 5), 1)
        drawn.putpalette(bytes(6))
        drawn.save(tmp_path / "a.png", transparency=bytes([255, 0]))
    else:
        drawn.convert(mode).save(tmp_path / "a.png")
    with pytest.raises(
        wsn.DataError, match=rf"a\.png .*got Pillow's mode {mode} with all of it in the transp.*a background"
    ):
        decode(tmp_path / "a.png")
    Image.new("LA", (13, 11), (7, 100)).save(tmp_path / "a.png")  # one colour, behind one transparency
    assert decode(tmp_path / "a.png").lost == ("transparency",)
    Image.new("LA", (13, 11), (7, 255)).save(tmp_path / "a.png")
    assert decode(tmp_path / "a.png").lost == ()


@pytest.mark.parametrize(("kind", "end"), [("GIF", "gif"), ("TIFF", "tif"), ("PNG", "png"), ("WEBP", "webp")])
def test_of_several_frames_the_first_is_taken_and_the_loss_named(kind, end, tmp_path):
    frames = [Image.new("RGB", (13, 11), colour) for colour in ("#800000", "#00ff00", "#0000ff")]
    options = {"lossless": True} if kind == "WEBP" else {}
    frames[0].save(tmp_path / f"a.{end}", format=kind, save_all=True, append_images=frames[1:], **options)
    found = decode(tmp_path / f"a.{end}")
    assert found.image.getpixel((3, 5)) == (128, 0, 0)
    assert found.lost == ("all frames but the first",)
