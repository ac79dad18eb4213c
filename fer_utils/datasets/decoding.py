"""The one way from the bytes of a picture to pixels, whatever camera, program or format they come from."""

from __future__ import annotations

import codecs
import io
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np
from PIL import ExifTags, Image, ImageOps

from ..errors import DataError

__all__ = ["DECODER", "GROUND", "MAX_PIXELS", "SUFFIXES", "decode_image", "name_picture", "open_pixels"]

#: An image with more pixels than this is refused; nor are more decoded at one time, in however many threads.
MAX_PIXELS = 50_000_000
#: Grey value of what lies behind transparent pixels: white, as a page has it.
GROUND = 255
#: Changes whenever the same file would be decoded to other pixels: a cached copy of older code is then not taken up.
DECODER = 2

# Pillow's formats that hold one picture in pixels, and their endings. Not those for which it runs another program
# (EPS, WMF) or only reads a header (HDF5, GRIB). TGA comes last, because it has no first bytes of its own.
_FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"), "PNG": (".png", ".apng"), "BMP": (".bmp",), "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"), "WEBP": (".webp",), "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "AVIF": (".avif", ".avifs"), "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"), "MPO": (".mpo",),
    "DIB": (".dib",), "ICO": (".ico",),
    "PCX": (".pcx",), "PSD": (".psd",), "QOI": (".qoi",), "SGI": (".sgi", ".rgb", ".rgba", ".bw"), "SUN": (".ras",),
    "XBM": (".xbm",), "XPM": (".xpm",), "DDS": (".dds",), "TGA": (".tga", ".icb", ".vda", ".vst"),
}
#: Endings of file names that are pictures.
SUFFIXES = tuple(suffix for suffixes in _FORMATS.values() for suffix in suffixes)

# Blocks that malloc takes from the system and gives back: of smaller ones each thread keeps a picture's worth for ever.
Image.core.set_block_size(max(Image.core.get_block_size(), 2**26))

_SHARES = 8
_shares = threading.Semaphore(_SHARES)
_turn = threading.Lock()


@contextmanager
def _hold_share(pixels: int) -> Iterator[None]:
    """Wait until so many pixels more fit into ``MAX_PIXELS``, counted in eighths of it."""
    count = min(_SHARES, max(1, math.ceil(pixels * _SHARES / MAX_PIXELS)))
    with _turn:  # one at a time, so that no two wait for what the other holds
        for _ in range(count):
            _shares.acquire()
    try:
        yield
    finally:
        _shares.release(count)


@contextmanager
def open_pixels(data: bytes, where: object, mode: str = "RGB", *, upright: bool = True) -> Iterator[np.ndarray]:
    """As :func:`decode_image`; what is done to the pixels within the context counts as decoding, too: see ``MAX_PIXELS``.

    Parameters
    ----------
    data, where, mode, upright
        As :func:`decode_image`.

    Yields
    ------
    uint8 ``[H, W, 3]`` or ``[H, W]``

    Raises
    ------
    DataError
        As :func:`decode_image`.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=_list_formats())
    except Exception as error:  # Pillow's parsers raise many kinds on damaged files
        reason = _describe_bytes(data) if isinstance(error, Image.UnidentifiedImageError) else error
        raise _undecodable(where, reason) from error
    with image:
        pixels = image.width * image.height
        if pixels > MAX_PIXELS:
            raise DataError.at(where, f"{image.width}x{image.height} pixels", f"at most {MAX_PIXELS} pixels")
        with _hold_share(pixels):
            try:
                array = _decode(image, mode, upright)
            except Exception as error:  # as above, and those of its decoders
                raise _undecodable(where, error) from error
            yield array


def decode_image(data: bytes, where: object, mode: str = "RGB", *, upright: bool = True) -> np.ndarray:
    """Decode an image file.

    Parameters
    ----------
    data : bytes
        JPEG, PNG, WebP, TIFF or what else has an ending of ``SUFFIXES``; the name of the file does not matter. Of
        several frames the first is taken.
    where : object
        The file, for errors.
    mode : {"RGB", "L"}
    upright : bool
        Turn the picture as its EXIF orientation says, so that it is seen as every viewer shows it. False where
        somebody's boxes or landmarks count the pixels as they are stored.

    Returns
    -------
    uint8 ``[H, W, 3]`` or ``[H, W]``
        Transparent pixels show the ``GROUND``. White is 65535 in 16 and 32 bits, and 1 in floating point.

    Raises
    ------
    DataError
        If it is no such image, is truncated, or has more than ``MAX_PIXELS``; or if its values do not say which is
        white: 16 or 32 bits that stay below half of 65535 or exceed it, or floating-point numbers outside 0 to 1.
    """
    with open_pixels(data, where, mode, upright=upright) as array:
        return array


@cache
def _list_formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)  # an older Pillow has fewer


def _undecodable(where: object, reason: object) -> DataError:
    text = str(reason) or type(reason).__name__
    return DataError.at(where, f"cannot be decoded ({text[:200]})", "a whole JPEG or PNG image")


def _decode(image: Image.Image, mode: str, upright: bool) -> np.ndarray:
    deep = ";16" in str(image.tile)
    # Pillow turns a TIFF while it loads it, and no other kind: that is turned back where pixels are wanted as they are stored
    told = _read_orientation(image) if image.format == "TIFF" and not upright else 1
    image.load()
    turn = _read_orientation(image) if upright else {6: 8, 8: 6}.get(told, told)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _scale_grey(image)
    elif deep:  # Pillow has kept the upper 8 of 16 bits
        _check_white(256 * max(high for _, high in image.convert("RGB").getextrema()))
    if image.has_transparency_data:
        image = _fill_ground(image)
    if image.mode != mode:
        image = image.convert(mode)
    if turn == 1:
        return np.asarray(image)
    # Turned as a new image with this one tag: Pillow would write all tags of the old one anew, and may stumble over one.
    bare = Image.fromarray(np.asarray(image))
    bare.getexif()[ExifTags.Base.Orientation] = turn
    return np.asarray(ImageOps.exif_transpose(bare))


def _read_orientation(image: Image.Image) -> int:
    try:
        turn = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged tags in a whole picture: it is shown as it is stored
        return 1
    return turn if turn in range(2, 9) else 1


def _scale_grey(image: Image.Image) -> Image.Image:
    """Grey of more than 8 bits as 8 bits."""
    values = np.asarray(image)
    low, high = values.min(), values.max()
    if image.mode == "F":
        if not (low >= 0 and high <= 1):  # false for NaN, too
            raise ValueError(f"floating-point values from {low:g} to {high:g}, not within 0 to 1; save it with 8 bits")
        scaled = values * np.float32(255)
    else:
        _check_white(high, low)
        scaled = values / np.float32(257)
    grey = np.rint(scaled).astype(np.uint8)
    key = image.info.get("transparency")
    if isinstance(key, int):
        grey[values == key] = GROUND
    return Image.fromarray(grey)


def _check_white(high: int, low: int = 0) -> None:
    """What is white is known from the format and not guessed from the picture: a file may hold 12 bits of its 16."""
    if not (low >= 0 and 2**15 <= high < 2**16) and (low or high):
        raise ValueError(
            f"values from {low} to {high}, none in the upper half of 16 bits or some outside, so it is not known which value is white; "
            "save it with 8 bits"
        )


def _fill_ground(image: Image.Image) -> Image.Image:
    if image.mode == "La":
        image = image.convert("LA")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, (GROUND, GROUND, GROUND, 255)), image).convert("RGB")


# -- what else a file can be -------------------------------------------------------------------------------------------

_FIRST_BYTES = {
    b"\xff\xd8\xff": "JPEG", b"\x89PNG": "PNG", b"GIF8": "GIF", b"BM": "BMP", b"II*\0": "TIFF", b"MM\0*": "TIFF",
    b"\0\0\0\x0cjP  ": "JPEG 2000", b"8BPS": "Photoshop", b"qoif": "QOI", b"\0\0\0\x0cJXL ": "JPEG XL", b"\xff\x0a": "JPEG XL",
}
_OTHERS = {
    b"version https://git-lfs": "a Git LFS pointer in the picture's place; 'git lfs pull' gets the picture",
    b"PK\x03\x04": "a zip archive", b"\x1f\x8b": "a gzip archive", b"7z\xbc\xaf": "a 7z archive", b"Rar!": "a RAR archive",
    b"%PDF": "a PDF document", b"%!PS": "a PostScript drawing", b"\x93NUMPY": "a NumPy array", b"\x89HDF": "an HDF5 file",
}
_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIC"),
}


def name_picture(data: bytes) -> str:
    """The format whose first bytes some data has, also one that is not read here; empty where it is no picture's."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data[4:8] == b"ftyp":
        return _BRANDS.get(data[8:12], "")
    return next((name for first, name in _FIRST_BYTES.items() if data.startswith(first)), "")


def _describe_bytes(data: bytes) -> str:
    """Say in a few words what data that is no readable picture is by its first bytes."""
    name = name_picture(data)
    if name:
        known = any(name.upper().replace(" ", "") == format for format in _list_formats())
        what, article = "begins like" if known else "is", "an" if name == "AVIF" else "a"
        end = "and is damaged" if known else "which is not read here; save it as PNG"
        return f"it {what} {article} {name} picture, {end}"
    other = next((text for first, text in _OTHERS.items() if data.startswith(first)), "")
    if other:
        return f"it is {other}"
    if data[4:8] == b"ftyp" or (data[:4] == b"RIFF" and data[8:12] == b"AVI "):
        return "it is a video"
    start = data[:512]
    if not start.strip(b"\0"):
        return "it holds nothing but zero bytes" if data else "it is empty"
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(start).strip()  # the last letter may be cut
    except UnicodeDecodeError:
        text = ""
    if "<svg" in text.lower():
        return "it is an SVG drawing"
    if text.lower().startswith(("<!doctype html", "<html", "<head", "<body", "<script")):
        return "it is a web page, such as a login page, in the picture's place"
    if text and sum(c.isprintable() or c.isspace() for c in text) == len(text):
        return f"it is text that begins with {text[:30]!r}"
    return f"it begins like no picture, with the bytes {start[:8].hex(' ')}"
