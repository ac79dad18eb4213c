"""From the bytes of a picture to pixels: every format, every kind of pixel, and files that are no pictures."""

from __future__ import annotations

import io
import json
import os
import struct
import threading
import warnings
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import image_bytes, pack, put, write_ckplus, write_rafdb
from PIL import Image, features
from test_affectnet import write_files, write_lists
from test_celeba import write_celeba
from test_expw import write_expw

from fer_utils.datasets import affectnet, celeba, ckplus, decoding, expw, folder, rafdb
from fer_utils.datasets.base import decode_image
from fer_utils.datasets.decoding import SUFFIXES, open_pixels
from fer_utils.datasets.images import load_images
from fer_utils.datasets.source import Source, read_text
from fer_utils.errors import DataError
from fer_utils.files import cache_root, read_regular, read_rows, write_rows

COLOURS = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
TURNS = {  # EXIF orientation -> what a camera that writes it does to the picture before it stores it
    1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270,
}


def save(image: Image.Image | np.ndarray, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(buffer, kind, **options)
    return buffer.getvalue()


def turned(tag: int, kind: str = "PNG", **options) -> bytes:
    exif = Image.Exif()
    exif[0x112] = tag
    stored = Image.fromarray(COLOURS)
    return save(stored if TURNS.get(tag) is None else stored.transpose(TURNS[tag]), kind, exif=exif, **options)


# -- formats --------------------------------------------------------------------------------------------------------------


def test_decode_image() -> None:
    data = image_bytes(0, (12, 7), kind="PNG")
    assert decode_image(data, "a.png").shape == (7, 12, 3)
    assert decode_image(data, "a.png", "L").shape == (7, 12)


LOSSLESS = {
    "BMP": {}, "DIB": {}, "PNG": {}, "PPM": {}, "TIFF": {}, "TGA": {}, "PCX": {}, "SGI": {}, "QOI": {}, "DDS": {},
    "WEBP": {"lossless": True}, "JPEG2000": {}, "ICO": {"sizes": [(40, 24)]},
}


@pytest.mark.parametrize("kind", LOSSLESS)
def test_one_picture_in_any_container(kind: str) -> None:
    Image.init()
    if kind not in Image.SAVE:
        pytest.skip("this Pillow does not write it")
    data = save(COLOURS, kind, **LOSSLESS[kind])
    assert np.array_equal(decode_image(data, "a.jpg"), COLOURS), "whatever it is called"
    assert np.array_equal(decode_image(data, "a", "L"), np.asarray(Image.fromarray(COLOURS).convert("L")))


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif() -> None:
    smooth = np.linspace(0, 255, 64 * 64).reshape(64, 64).astype(np.uint8)
    assert np.abs(decode_image(save(smooth, "AVIF", quality=95), "a", "L").astype(int) - smooth).max() < 12


def test_endings_are_those_of_pillows_formats() -> None:
    Image.init()
    registered = Image.registered_extensions()
    assert set(decoding._list_formats()) <= set(decoding._FORMATS) and {"JPEG", "PNG", "WEBP"} <= set(decoding._list_formats())
    for format in decoding._list_formats():
        assert {registered.get(suffix, "") for suffix in decoding._FORMATS[format]} <= {format, "TIFF", "PPM"}, format
    assert {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".ppm", ".pgm", ".tif", ".tiff", ".bmp", ".gif"} <= set(SUFFIXES)


@pytest.mark.parametrize("ending", ["webp", "WEBP", "jfif", "jpe", "ppm", "pgm", "jp2", "tga"])
def test_a_class_folder_has_pictures_of_any_ending(tmp_path: Path, ending: str) -> None:
    kind = {"webp": "WEBP", "ppm": "PPM", "pgm": "PPM", "jp2": "JPEG2000", "tga": "TGA"}.get(ending.lower(), "JPEG")
    put(tmp_path, f"happy/a.{ending}", save(COLOURS[..., 0] if ending == "pgm" else COLOURS, kind))
    put(tmp_path, "happy/b.png", save(COLOURS))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert folder.load(tmp_path).images.shape == (2, 24, 40, 3)


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
def test_pictures_left_out_by_their_names_are_said(tmp_path: Path, packed: bool) -> None:
    root = tmp_path / "photos"
    put(root, "happy/a.png", save(COLOURS))
    put(root, "README", "words")
    put(root, "happy/notes.doc", b"\xd0\xcf\x11\xe0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(folder.load(root)) == 1
    put(root, "happy/b", save(COLOURS, "JPEG"))
    put(root, "happy/c.heic", b"\0\0\0\x18ftypheic\0\0\0\0")
    if packed:
        root = pack(root)
    with pytest.warns(UserWarning, match=r"photos.*: 2 pictures are left out, first .*happy/b \(JPEG\); give each an ending"):
        assert len(folder.load(root)) == 1


# -- orientation ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("tag", [*TURNS, 0, 9])
def test_pictures_are_upright(tag: int, kind: str) -> None:
    data = turned(tag, kind, **({"lossless": True} if kind == "WEBP" else {}))
    assert np.array_equal(decode_image(data, "a"), COLOURS)
    stored = Image.fromarray(COLOURS) if TURNS.get(tag) is None else Image.fromarray(COLOURS).transpose(TURNS[tag])
    assert np.array_equal(decode_image(data, "a", upright=False), np.asarray(stored))


def test_jpegs_are_upright_or_as_they_are_stored() -> None:
    data = turned(6, "JPEG", quality=95, subsampling=0)
    upright, stored = decode_image(data, "a"), decode_image(data, "a", upright=False)
    assert upright.shape == COLOURS.shape and np.abs(upright.astype(int) - COLOURS).mean() < 12
    assert np.array_equal(np.rot90(upright), stored)
    assert np.array_equal(decode_image(data, "a", "L"), np.rot90(decode_image(data, "a", "L", upright=False), -1))


def test_damaged_exif_does_not_hide_a_whole_picture() -> None:
    plain = save(COLOURS, "JPEG")
    for body in (b"words", b"Exif\0\0", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0II*\0\xff\xff\xff\xff"):
        segment = b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert np.array_equal(decode_image(plain[:2] + segment + plain[2:], "a"), decode_image(plain, "a"))


def test_other_tags_of_a_turned_picture_do_no_harm() -> None:
    exif = Image.Exif()
    exif[0x112], exif[0x9286], exif[0x010F] = 6, b"\xff\xfe", "maker\0"
    exif.get_ifd(0x8769)[0x927C] = b"\0" * 40
    data = save(Image.fromarray(COLOURS).transpose(TURNS[6]), exif=exif)
    assert np.array_equal(decode_image(data, "a"), COLOURS)


OWN_PIXELS = {
    "rafdb": (lambda root: write_rafdb(root, "basic"), lambda root: rafdb.load(root, "basic")),
    "ckplus": (lambda root: write_ckplus(root, sparse=True), ckplus.load),
    "expw": (write_expw, expw.load),
    "celeba": (write_celeba, celeba.load),
    "celeba resized": (write_celeba, lambda root: celeba.load(root, size=64)),
    "affectnet files": (write_files, affectnet.load),
    "affectnet lists": (write_lists, lambda root: affectnet.load(root, size=64)),
}


@pytest.mark.parametrize("name", OWN_PIXELS)
def test_owners_boxes_and_landmarks_count_stored_pixels(tmp_path: Path, name: str) -> None:
    """A tag in a picture whose points or boxes come with it is not followed: they would lie elsewhere."""
    write, load = OWN_PIXELS[name]
    write(tmp_path)
    before = load(tmp_path).images
    paths = [path for path in tmp_path.rglob("*") if path.suffix.lower() in SUFFIXES]
    for path in paths:
        plain = path.read_bytes()
        exif = Image.Exif()
        exif[0x112] = 6
        body, png = exif.tobytes(), plain.startswith(b"\x89PNG")
        if png:  # behind the header chunk, which ends at byte 33
            body = b"eXIf" + body.removeprefix(b"Exif\0\0")
            told = plain[:33] + struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body)) + plain[33:]
        else:
            told = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + plain[2:]
        path.write_bytes(told)
        assert np.array_equal(decode_image(told, path), np.rot90(decode_image(plain, path), -1)), "any other loader turns it"
    assert paths and np.array_equal(load(tmp_path).images, before)


# -- grey of many bits ----------------------------------------------------------------------------------------------------

RAMP = np.linspace(0, 1, 10_000).reshape(100, 100)
GREY = np.rint(RAMP * 255)
WIDE = {
    "16-bit PNG": save((RAMP * 65535).astype(np.uint16)),
    "16-bit TIFF": save((RAMP * 65535).astype(np.uint16), "TIFF"),
    "16-bit TIFF, big-endian": save(Image.frombytes("I;16B", (100, 100), (RAMP * 65535).astype(">u2").tobytes()), "TIFF"),
    "16-bit PGM": b"P5 100 100 65535\n" + (RAMP * 65535).astype(">u2").tobytes(),
    "12-bit PGM": b"P5 100 100 4095\n" + (RAMP * 4095).astype(">u2").tobytes(),
    "32-bit TIFF": save((RAMP * 65535).astype(np.int32), "TIFF"),
    "float TIFF": save(RAMP.astype(np.float32), "TIFF"),
    "8-bit PNG": save(GREY.astype(np.uint8)),
}


@pytest.mark.parametrize("name", WIDE)
def test_wide_grey_keeps_its_shades(name: str) -> None:
    image = decode_image(WIDE[name], name, "L")
    assert np.abs(image - GREY).max() <= 1 and image.min() == 0 and image.max() == 255
    assert np.array_equal(decode_image(WIDE[name], name), np.repeat(image[..., None], 3, axis=2))


@pytest.mark.parametrize("pixels", [
    (RAMP * 4095).astype(np.uint16), (RAMP * 16383).astype(np.uint16), GREY.astype(np.uint16), (RAMP * 2**30).astype(np.int32),
    (RAMP * 65535 - 9).astype(np.int32), (RAMP * 255).astype(np.float32), (RAMP - 0.1).astype(np.float32),
    np.full((9, 9), np.nan, np.float32), np.full((9, 9), np.inf, np.float32),
], ids=["12 bits", "14 bits", "8 bits", "30 bits", "below 0", "float to 255", "float below 0", "nan", "inf"])
def test_what_is_white_is_not_guessed(pixels: np.ndarray) -> None:
    for mode in ("L", "RGB"):
        with pytest.raises(DataError, match=r"a\.tif: cannot be decoded \(.*values from .* to .* [Ss]ave it with 8 bits\)"):
            decode_image(save(pixels, "TIFF"), "a.tif", mode)


def write_colours(pixels: np.ndarray) -> bytes:
    """A PNG with 16 bits a colour, which Pillow does not write, as others do: uint16 ``[H, W, 3]``."""
    head = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, 2, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )


def test_colours_of_16_bits() -> None:
    assert np.array_equal(decode_image(write_colours(COLOURS * np.uint16(257)), "a"), COLOURS)
    assert not decode_image(write_colours(COLOURS * np.uint16(0)), "a").any()
    with pytest.raises(DataError, match=r"a: cannot be decoded \(values from 0 to \d+, none in the upper half of 16 bits"):
        decode_image(write_colours(COLOURS * np.uint16(16)), "a")


def test_black_is_black() -> None:
    assert not decode_image(save(np.zeros((4, 4), np.uint16)), "a").any()


# -- transparency ---------------------------------------------------------------------------------------------------------


def transparent(kind: str) -> Image.Image:
    """Left half a grey of 100 that is seen, right half one of 30 that is not."""
    grey = np.full((8, 8), 100, np.uint8)
    grey[:, 4:] = 30
    alpha = np.where(grey == 100, 255, 0).astype(np.uint8)
    if kind == "LA":
        return Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)])
    if kind == "RGBA":
        return Image.merge("RGBA", [*[Image.fromarray(grey)] * 3, Image.fromarray(alpha)])
    image = Image.fromarray(grey)
    if kind.startswith("P"):
        image = image.convert("P")
        image.info["transparency"] = 30 if kind == "P" else bytes(0 if i == 30 else 255 for i in range(256))
    elif kind == "RGB":
        image = image.convert("RGB")
        image.info["transparency"] = (30, 30, 30)
    elif kind == "L":
        image.info["transparency"] = 30
    return image


@pytest.mark.parametrize(("kind", "format"), [
    ("LA", "PNG"), ("RGBA", "PNG"), ("P", "PNG"), ("P bytes", "PNG"), ("L", "PNG"), ("RGB", "PNG"), ("P", "GIF"), ("RGBA", "WEBP"),
    ("RGBA", "TIFF"), ("RGBA", "TGA"), ("RGBA", "JPEG2000"),
])
def test_what_is_transparent_shows_the_ground(kind: str, format: str) -> None:
    options = {"lossless": True} if format == "WEBP" else {}
    image = transparent(kind)
    data = save(image, format, **({"transparency": image.info["transparency"]} if "transparency" in image.info else {}), **options)
    for mode in ("L", "RGB"):
        array = decode_image(data, "a", mode)
        assert np.all(array[:, :4] == 100) and np.all(array[:, 4:] == decoding.GROUND), (mode, array[0, :, ...])


def test_half_transparent_pixels_mix_with_the_ground() -> None:
    half = Image.new("RGBA", (2, 2), (0, 0, 0, 128))
    assert np.all(np.abs(decode_image(save(half), "a").astype(int) - 127) <= 1)


def test_16_bit_grey_with_a_transparent_value() -> None:
    pixels = np.full((4, 4), 65535, np.uint16)
    pixels[:, 2:] = 300
    data = save(Image.fromarray(pixels), transparency=300)
    assert decode_image(data, "a", "L")[0].tolist() == [255, 255, decoding.GROUND, decoding.GROUND]
    assert decode_image(save(pixels), "a", "L")[0].tolist() == [255, 255, 1, 1]


def test_other_kinds_of_pixels() -> None:
    image = Image.fromarray(COLOURS)
    few = image.quantize(16)
    for other in (few, image.convert("1"), image.convert("L")):
        kind = other.convert("RGB")
        assert np.array_equal(decode_image(save(other), "a"), np.asarray(kind))
    assert np.array_equal(decode_image(save(few, "GIF"), "a", "L"), np.asarray(few.convert("RGB").convert("L")))
    inks = save(image.convert("CMYK"), "TIFF")
    assert np.array_equal(decode_image(inks, "a"), COLOURS)


# -- what is no picture ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_damaged_images(kind: str) -> None:
    """A cut image is a DataError wherever it is cut."""
    data = image_bytes(1, (40, 40), kind=kind)
    for end in range(1, len(data) - 20, 11 if kind != "TIFF" else 101):
        with warnings.catch_warnings(), pytest.raises(DataError, match=r"a\.jpg: cannot be decoded"):
            warnings.simplefilter("ignore")
            decode_image(data[:end], "a.jpg")


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a.txt", "words")
    return buffer.getvalue()


NO_PICTURES = {
    "web page": (b"\n<!DOCTYPE html><html>please log in</html>", "a web page"),
    "page with mark": (b"\xef\xbb\xbf<HTML>", "a web page"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n", "a Git LFS pointer"),
    "nothing": (b"", "it is empty"),
    "zeros": (bytes(2000), "nothing but zero bytes"),
    "text": ("Zugriff verweigert, ü".encode() * 100, "text that begins with 'Zugriff verweigert"),
    "control": (b"\x1b[2Jevil", "no picture, with the bytes 1b 5b 32"),
    "json": (json.dumps({"error": 404}).encode(), "text that begins with '{"),
    "zip": (archive(), "a zip archive"),
    "pdf": (b"%PDF-1.7\n", "a PDF document"),
    "svg": (b"<?xml version='1.0'?><svg/>", "an SVG drawing"),
    "video": (b"\0\0\0\x18ftypmp42\0\0\0\0", "a video"),
    "heic": (b"\0\0\0\x18ftypheic\0\0\0\0", "a HEIC picture, which is not read here"),
    "jxl": (b"\xff\x0a" + bytes(range(50)), "a JPEG XL picture, which is not read here"),
    "webp": (image_bytes(0, (9, 9), kind="WEBP")[:14], "begins like a WebP picture, and is damaged"),
    "jpeg": (image_bytes(0, (9, 9))[:20], "begins like a JPEG picture, and is damaged"),
    "bytes": (bytes(range(200, 256)) * 20, "no picture, with the bytes c8 c9 ca"),
}


@pytest.mark.parametrize("name", NO_PICTURES)
def test_what_is_no_picture_is_named_for_what_it_is(name: str) -> None:
    data, words = NO_PICTURES[name]
    with pytest.raises(DataError, match=rf"a\.jpg: cannot be decoded \(.*{words}") as caught:
        decode_image(data, "a.jpg")
    message = str(caught.value)
    assert message.endswith("; expected a whole JPEG or PNG image") and "BytesIO" not in message
    assert len(message) < 300 and message.isprintable()


def test_random_bytes_behind_any_beginning() -> None:
    rng = np.random.default_rng(0)
    starts = (
        *decoding._FIRST_BYTES, *decoding._OTHERS, b"P5 9 9 255\n", b"\x0a\5\1\x08", b"\0\0\2\0", b"RIFF\0\0\0\0WEBP",
    )
    for i in range(400):
        data = starts[i % len(starts)] + rng.bytes(int(rng.integers(0, 300)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                assert decode_image(data, "a.jpg").dtype == np.uint8
            except DataError as error:
                assert "a.jpg" in str(error) and "object at" not in str(error) and len(str(error)) < 400


# -- sizes ----------------------------------------------------------------------------------------------------------------


def test_image_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MAX_PIXELS", 1000)
    with pytest.raises(DataError, match="40x40 pixels; expected at most 1000"):
        decode_image(image_bytes(0, (40, 40)), "a.jpg")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DataError, match=r"a\.jpg: cannot be decoded"):
        decode_image(image_bytes(0, (40, 40)), "a.jpg")


def test_threads_share_one_budget_of_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many threads decode, no more pixels than the largest picture's are open at one time; errors give their share back."""
    monkeypatch.setattr(decoding, "MAX_PIXELS", 8000)
    pictures = [save(np.zeros((side, 40), np.uint8)) for side in (200, 50, 25, 100, 10)]
    lock, held, most = threading.Lock(), 0, 0

    def look(i: int) -> None:
        nonlocal held, most
        with open_pixels(pictures[i % 5], "a") as image:
            with lock:
                held += image.shape[0] * image.shape[1]
                most = max(most, held)
            threading.Event().wait(0.002)
            with lock:
                held -= image.shape[0] * image.shape[1]
            if i % 3 == 0:
                raise KeyError(i)

    with ThreadPoolExecutor(16) as pool:
        futures = [pool.submit(look, i) for i in range(100)]
    ends = [future.exception() for future in futures]
    assert sum(isinstance(end, KeyError) for end in ends) == 34 and 4000 < most <= 8000 and decoding._shares._value == 8


# -- what is opened -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["pipe", "device"])
def test_only_regular_files_are_read(tmp_path: Path, what: str) -> None:
    root = tmp_path / "photos"
    put(root, "happy/a.png", save(COLOURS))
    if what == "pipe":
        os.mkfifo(root / "happy/b.png")
        os.mkfifo(root / "happy/notes")
        os.mkfifo(tmp_path / "labels.txt")
        os.mkfifo(tmp_path / "faces.zip")
        with pytest.raises(DataError, match=r"labels\.txt: cannot be read \(not a regular file\); expected words"):
            read_text(tmp_path / "labels.txt", "words")
        with pytest.raises(DataError, match=r"faces\.zip: cannot be read as a zip archive \(not a regular file\)"):
            folder.load(tmp_path / "faces.zip")
        with pytest.raises(DataError, match=r"b\.png: cannot be read \(not a regular file\)"):
            _ = folder.load(root).images
    else:
        with pytest.raises(OSError, match="not a regular file"):
            read_regular(Path("/dev/zero"), 100)


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
def test_one_limit_of_bytes_for_folders_and_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool) -> None:
    monkeypatch.setattr("fer_utils.datasets.source.MAX_MEMBER_BYTES", 2**21)
    root = tmp_path / "photos"
    put(root, "happy/a.png", b"")
    with (root / "happy/a.png").open("r+b") as file:
        file.truncate(2**21 + 1)  # takes no room on the disk
    with pytest.raises(DataError, match=r"a\.png.*2097153 bytes"):
        _ = folder.load(pack(root) if packed else root).images


def test_an_archive_with_a_nameless_member(tmp_path: Path) -> None:
    path = tmp_path / "faces.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a", "x")
    data = bytearray(path.read_bytes())
    data[data.rindex(b"a")] = 0
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"faces\.zip!: a member without a name"):
        Source(path)


# -- cached pixels --------------------------------------------------------------------------------------------------------


def test_upright_and_stored_pixels_are_cached_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fer_utils.datasets.images._MANY", 2)
    names = ["a.png", "b.png"]
    for name in names:
        put(tmp_path / "box", name, turned(3))
    for upright in (True, False, True):
        images = load_images(Source(tmp_path / "box"), names, upright=upright).load()
        assert np.array_equal(images[0], COLOURS if upright else COLOURS[::-1, ::-1])
    assert len(list(cache_root().iterdir())) == 2


def test_rows_are_taken_only_as_they_were_written(tmp_path: Path) -> None:
    path, rows = tmp_path / "rows.npy", np.arange(60, dtype=np.uint8).reshape(5, 3, 4)
    assert read_rows(path) is None
    write_rows(path, [rows[:2], rows[2:]], 5)
    whole = path.read_bytes()
    found = read_rows(path)
    assert np.array_equal(found, rows) and not found.flags.writeable and np.array_equal(np.load(path), rows)
    for i in range(len(whole)):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 4]) + whole[i + 1 :])
        assert read_rows(path) is None, i
    for other in (b"", whole[:-1], whole[-32:], whole + b"x", b"\x93NUMPY"):
        path.write_bytes(other)
        assert read_rows(path) is None
