"""Pictures that are there twice: what counts as the same picture, what does not, and what is said of it."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from fer_utils.datasets import FaceDataset
from fer_utils.datasets.duplicates import describe_doubts, group_duplicates, shrink_images


def draw(seed: int, size: int = 100, grain: int = 7) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(30, 226, (grain, grain, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)


def compress(picture: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=40)
    return Image.open(io.BytesIO(buffer.getvalue()))


def add_noise(picture: Image.Image) -> Image.Image:
    noise = np.random.default_rng(5).integers(-9, 10, np.asarray(picture).shape)
    return Image.fromarray((np.asarray(picture).astype(int) + noise).clip(0, 255).astype(np.uint8))


COPIES = {
    "equal": lambda p: p,
    "other compression": compress,
    "smaller": lambda p: p.resize((48, 48), Image.Resampling.LANCZOS),
    "grey": lambda p: p.convert("L"),
    "brighter": lambda p: p.point(lambda v: v + 25),
    "less contrast": lambda p: p.point(lambda v: 60 + v // 2),
    "noise": add_noise,
    "mirrored": ImageOps.mirror,
    "moved by a pixel": lambda p: p.crop((1, 1, 100, 100)),
}


def shrink(*pictures: Image.Image) -> np.ndarray:
    return np.concatenate([shrink_images(np.asarray(picture)[None]) for picture in pictures])


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_is_the_same_picture(kind: str) -> None:
    others = [draw(seed) for seed in range(1, 40)]
    groups = group_duplicates(shrink(draw(0), *others, COPIES[kind](draw(0))))
    assert groups[0] == groups[-1]
    assert len(np.unique(groups)) == 40, "no two other pictures are one"


@pytest.mark.parametrize("change", [lambda p: p.rotate(180), lambda p: p.transpose(Image.Transpose.ROTATE_90), ImageOps.invert])
def test_a_changed_picture_is_another(change) -> None:
    groups = group_duplicates(shrink(draw(0), draw(1), change(draw(0))))
    assert len(np.unique(groups)) == 3


def test_faces_that_differ_in_one_place_are_two() -> None:
    face = np.asarray(draw(3)).copy()
    smiling = face.copy()
    smiling[65:85, 25:75] = 255 - smiling[65:85, 25:75]
    groups = group_duplicates(shrink(Image.fromarray(face), Image.fromarray(smiling)))
    assert groups[0] != groups[1]


def test_plain_pictures_are_alike_only_where_they_are_equal() -> None:
    plain = [Image.new("L", (50, 50), level) for level in (0, 128, 129, 255, 128)]
    groups = group_duplicates(shrink(*plain, draw(0)))
    assert groups[1] == groups[4] and len(np.unique(groups)) == 5
    assert len(np.unique(group_duplicates(shrink(plain[0])))) == 1


def test_many_copies_of_one_picture_are_one_group() -> None:
    many = [add_noise(draw(0).point(lambda v, k=k: v + k % 20)) for k in range(60)]
    groups = group_duplicates(shrink(*many, *[draw(1)] * 60, draw(2)))
    assert len(np.unique(groups[:60])) == len(np.unique(groups[60:120])) == 1 and len(np.unique(groups)) == 3


def test_chunks_find_what_one_pass_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    small = shrink(*[draw(seed) for seed in range(30)], *[ImageOps.mirror(draw(seed)) for seed in range(10)])
    whole = group_duplicates(small)
    monkeypatch.setattr("fer_utils.datasets.duplicates._ROWS", 7)
    assert np.array_equal(group_duplicates(small), whole) and len(np.unique(whole)) == 30


def toy(labels: list[int], people: list[int] | None = None) -> FaceDataset:
    n = len(labels)
    return FaceDataset(
        name="toy", images=np.zeros((n, 2, 2), np.uint8), labels=np.array(labels), classes=("a", "b"),
        names=np.array([f"n{i}\x1b.png" for i in range(n)]), split=np.full(n, "none"),
        identities=None if people is None else np.array(people),
    )


def test_what_is_said_of_copies() -> None:
    groups = np.array([0, 1, 1, 2, 3, 3])
    sides = np.array(["train", "train", "train", "test", "train", "test"])
    told, warning = describe_doubts(toy([0, 0, 1, 0, 0, 0]), groups, sides)
    assert "4 of 6 pictures" in told and "2 of them lie across parts" in told and "2 have a copy with another label" in told
    assert r"'n4\x1b.png' and 'n5\x1b.png'" in told and "too good" in warning and "\x1b" not in told
    (told,) = describe_doubts(toy([0] * 6), groups, np.zeros(6), "folds")
    assert "none of them lie across folds" in told and "label" not in told and r"'n1\x1b.png' and 'n2\x1b.png'" in told
    (told,) = describe_doubts(toy([0] * 6), groups, None)
    assert "across" not in told
    (told,) = describe_doubts(toy([0] * 6), np.arange(6), sides)
    assert told.startswith("No duplicates")


def test_people_on_both_sides_are_counted() -> None:
    sides = np.array(["train", "train", "test", "val", "train"])
    lines = describe_doubts(toy([0] * 5, [7, 8, 8, 7, 9]), np.arange(5), sides)
    assert lines[-1] == "2 of 3 people are in more than one of the parts."
    assert len(describe_doubts(toy([0] * 5, [7, 8, 9, 10, 8]), np.arange(5), sides)) == 1
