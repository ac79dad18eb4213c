"""What the Attention Map Generator is trained on: both sources, evenly, and people apart."""

import numpy as np
import pandas as pd
import pytest
from test_celeba import SHOWN, write_celeba

from fer_utils.datasets import celeba as real
from fer_utils.datasets import facsynth as shipped
from fer_utils.datasets.base import FaceDataset
from fer_utils.datasets.celeba import PARTS
from fer_utils.papers.ws_lgan.attributes import find_people, pool_faces, sample_task
from fer_utils.papers.ws_lgan.recipe import Generator

NAMES = [name for part in PARTS.values() for name in part]


def celeba(count=200, people=40, seed=0, **changes):
    """Faces as CelebA's loader gives them."""
    rng = np.random.default_rng(seed)
    shown = rng.random((count, len(NAMES))) < 0.2
    table = pd.DataFrame(shown, columns=NAMES).assign(Young=True)
    known = {"identities": rng.integers(people, size=count), "attributes": table, **changes}
    images = rng.integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)
    names = np.array([f"{i:06d}.jpg" for i in range(count)])
    return FaceDataset("CelebA", images, np.zeros(count, int), ("face",), names, np.full(count, "train"), **known)


def facsynth(name="FACSynth basic", count=200, first=1000, seed=1):
    """Faces as FACSynth's loader gives them: seven emotions, attributes in the truth."""
    rng = np.random.default_rng(seed)
    truth = pd.DataFrame(rng.random((count, len(NAMES))) < 0.25, columns=[part.lower() for part in NAMES])
    truth["identity"] = first + np.arange(count) // 4
    table = pd.DataFrame({"gender": ["male"] * count})
    images = rng.integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)
    names = np.array([f"train_{i:05d}.jpg" for i in range(count)])
    labels = np.arange(count) % 7
    return FaceDataset(
        name, images, labels, tuple("abcdefg"), names, np.full(count, "train"), attributes=table, truth=truth,
        identities=np.arange(count),
    )


def test_both_sources_become_one_kind_of_pool():
    real, synthetic = celeba(), facsynth()
    for faces in (real, synthetic):
        pool = pool_faces(faces)
        assert list(pool.attributes.columns) == NAMES and pool.classes == ("face",) and pool.truth is None
        assert np.array_equal(pool.images, faces.images) and np.array_equal(pool.identities, find_people(faces))
    assert np.array_equal(pool.attributes.to_numpy(), synthetic.truth[[name.lower() for name in NAMES]].to_numpy())
    assert pool.names[3] == "FACSynth basic/train_00003.jpg" and pool.identities[5] == 1001, "the truth's people, not the set's"


def test_the_files_of_celeba_become_a_pool(tmp_path):
    pool = pool_faces(real.load(write_celeba(tmp_path / "celeba"), size=48))
    assert pool.images.shape == (4, 48, 48, 3) and pool.identities.tolist() == [2880, 12, 2880, 7]
    assert [{name for name in NAMES if row[name]} for _, row in pool.attributes.iterrows()] == [set(shown) & set(NAMES) for shown in SHOWN]


def test_sets_with_equal_names_are_joined():
    pool = pool_faces(facsynth(), facsynth("FACSynth compound", first=1020, seed=2))
    assert len(pool) == 400 and len(np.unique(pool.names)) == 400 and len(np.unique(pool.identities)) == 70


@pytest.mark.parametrize("part", ["eyes", "mouth"])
@pytest.mark.parametrize("source", [celeba, facsynth])
def test_a_task_is_even_and_its_people_are_apart(source, part):
    faces = pool_faces(source())
    shown = dict(zip(faces.names, faces.attributes[list(PARTS[part])].any(axis=1), strict=True))
    task = sample_task(faces, part, 60, 12, 3)
    for chosen, count in ((task.train, 60), (task.validation, 12)):
        assert len(chosen) == count and len(set(chosen.names)) == count and chosen.labels.sum() == count // 2
        assert [bool(label) for label in chosen.labels] == [shown[name] for name in chosen.names]
        assert chosen.classes == (f"no attribute of the {part}", part)
    assert not set(task.train.identities) & set(task.validation.identities)
    again, other = sample_task(faces, part, 60, 12, 3), sample_task(faces, part, 60, 12, 4)
    assert np.array_equal(again.train.names, task.train.names) and not np.array_equal(other.train.names, task.train.names)


def test_people_of_test_faces_are_left_out():
    faces, tested = pool_faces(facsynth()), facsynth("FACSynth more", count=60, first=1000)
    task = sample_task(faces, "mouth", 40, 8, 0, apart_from=[tested])
    assert min(task.train.identities.min(), task.validation.identities.min()) >= 1015
    assert sample_task(faces, "mouth", 40, 8, 0).train.identities.min() < 1015


def test_without_an_attribute_its_faces_are_no_negatives():
    faces = pool_faces(celeba())
    table = faces.attributes.set_index(faces.names)
    task = sample_task(faces, "mouth", 40, 8, 0, without=("Smiling", "Big_Lips"))
    for chosen in (task.train, task.validation):
        rows = table.loc[chosen.names]
        assert rows[chosen.labels == 1]["Mouth_Slightly_Open"].all()
        assert not rows[chosen.labels == 0][list(PARTS["mouth"])].any(axis=None)


def test_faces_without_people_are_drawn_one_by_one():
    task = sample_task(pool_faces(celeba(identities=None)), "eyes", 60, 12, 0)
    assert not set(task.train.names) & set(task.validation.names) and task.train.labels.mean() == 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"part": "nose"}, r"part must be 'eyes' or 'mouth', got 'nose'"),
        ({"images": 31}, r"must be even and above 0, half positive and half negative; got 31 and 12"),
        ({"without": ("Bald",)}, r"no attribute of the eyes is called 'Bald'; expected some, not all, of Bushy_Eyebrows, "),
        ({"without": PARTS["eyes"]}, r"nothing is left of the eyes; expected some, not all, of "),
        ({"images": 1000}, r"CelebA has \d+ faces with an attribute of the eyes; expected 500 to train on and 6 to validate on, at"),
        ({"validation": 1000}, r"CelebA has \d+ faces with an attribute of the eyes; expected 30 to train on and 500 to validate on"),
        ({"apart_from": [celeba(identities=None)]}, r"who is shown in CelebA is not known, so people cannot be kept apart"),
    ],
)
def test_errors_of_a_task(options, message):
    with pytest.raises(ValueError, match=message):
        sample_task(pool_faces(celeba()), **{"part": "eyes", "images": 60, "validation": 12, "seed": 0, **options})


def test_the_shipped_faces_are_enough_for_the_book():
    recipe = Generator().at("book")
    basic, lab = shipped.load("basic", more=True), shipped.load("lab")
    pool = pool_faces(basic.train, shipped.load("compound", split="train"))
    tested = set(find_people(basic.test)) | set(find_people(lab))
    for part in PARTS:
        task = sample_task(pool, part, recipe.images, recipe.validation, 0, apart_from=[basic.test, lab])
        assert (len(task.train), len(task.validation)) == (recipe.images, recipe.validation)
        assert not tested & (set(task.train.identities) | set(task.validation.identities))


def test_one_person_cannot_be_on_both_sides():
    with pytest.raises(ValueError, match=r"CelebA: 0 faces with an .* eyes are left to train on, as no person may be on both"):
        sample_task(pool_faces(celeba(people=1)), "eyes", 20, 4, 0)


def test_errors_of_a_pool():
    with pytest.raises(ValueError, match="no faces to pool"):
        pool_faces()
    with pytest.raises(ValueError, match=r"CelebA does not say which faces show Bushy_Eyebrows, .*; expected faces of CelebA or FACSynth"):
        pool_faces(celeba(attributes=None))
