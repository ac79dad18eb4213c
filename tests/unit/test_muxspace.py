"""The layout of a muxspace clone, whole and broken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import pack, put, write_muxspace
from test_folder import DAMAGES, damage

from fer_utils.datasets import DataError, muxspace
from fer_utils.labels import MUXSPACE


def test_load(muxspace_tree: Path) -> None:
    faces = muxspace.load(muxspace_tree)
    assert faces.names.tolist() == ["Ann_Lee_0001.jpg", "Ann_Lee_0002.jpg", "Bo_Ray_0001.jpg", "Cy_0001.jpg"]
    assert [faces.classes[i] for i in faces.labels] == ["happiness", "neutral", "surprise", "contempt"]
    assert faces.images.shape == (4, 128, 128) and faces.classes == MUXSPACE.classes
    assert faces.identities.tolist() == [0, 0, 1, 2]
    assert len(faces.votes) == 6 and faces.votes["worker"].tolist()[-2:] == ["520", "302"]
    assert muxspace.load(muxspace_tree, size=48, transform=np.asarray)[0][0].shape == (48, 48)


def test_zipped_images_and_tabs(muxspace_tree: Path) -> None:
    pack(muxspace_tree / "images")
    legend = muxspace_tree / "data" / "legend.csv"
    first, *rest = legend.read_text().splitlines()
    legend.write_text("\n".join([first, *[line.replace(",", "\t") for line in rest]]))
    assert len(muxspace.load(muxspace_tree)) == 4


def test_default_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, muxspace_tree: Path) -> None:
    monkeypatch.setenv("FER_DATA", str(tmp_path))
    assert len(muxspace.load()) == 4
    monkeypatch.setenv("FER_DATA", str(tmp_path / "elsewhere"))
    with pytest.raises(DataError, match=r"elsewhere.*no such folder.*github\.com/muxspace"):
        muxspace.load()


def test_bad_size(muxspace_tree: Path) -> None:
    with pytest.raises(ValueError, match="size"):
        muxspace.load(muxspace_tree, size=0)


HEADER = "user.id,image,emotion\n"
BAD = {
    "header": ("data/legend.csv", "user,image,emotion\n1,Cy_0001.jpg,anger\n", "line 1: header"),
    "columns": ("data/legend.csv", HEADER + "1,Cy_0001.jpg\n", "line 2: 2 columns"),
    "emotion": ("data/legend.csv", HEADER + "1,Cy_0001.jpg,bored\n", "line 2: emotion 'bored'"),
    "climbing name": ("data/legend.csv", HEADER + "1,../data/Cy_0001.jpg,anger\n", "line 2: image name"),
    "no labels": ("data/legend.csv", HEADER, "no labels"),
    "empty legend": ("data/legend.csv", "", "empty file"),
    "image absent": ("data/legend.csv", HEADER + "1,Di_0001.jpg,anger\n", ""),
    "image empty": ("images/Cy_0001.jpg", "", "empty file"),
    "image is text": ("images/Cy_0001.jpg", "words", "cannot be decoded"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(muxspace_tree: Path, case: str) -> None:
    name, text, words = BAD[case]
    put(muxspace_tree, name, text)
    place = r"Di_0001\.jpg: not found" if case == "image absent" else Path(name).name
    with pytest.raises(DataError, match=f"{place}.*{words}"):
        _ = muxspace.load(muxspace_tree).images


@pytest.mark.parametrize("name", ["data/legend.csv", "images"])
def test_part_absent(muxspace_tree: Path, name: str) -> None:
    (muxspace_tree / name).rename(muxspace_tree / "away")
    with pytest.raises(DataError, match=f"{Path(name).name}: not found"):
        muxspace.load(muxspace_tree)


@pytest.mark.parametrize("case", [case for case in DAMAGES if case != "path not UTF-8"])
def test_bad_input_of_any_layout(tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_muxspace(tmp_path / "muxspace")
    folder = tmp_path / "muxspace" / "images"
    words = damage(case, folder / "Ann_Lee_0002.jpg", folder, monkeypatch)
    with pytest.raises(DataError, match=words):
        _ = muxspace.load(tmp_path / "muxspace").images
