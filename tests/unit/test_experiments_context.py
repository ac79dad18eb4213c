"""What a run leaves and another experiment's run reads."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from conftest import put

from fer_utils.errors import DataError
from fer_utils.experiments import Recipe, RunContext
from fer_utils.experiments.recipe import Profile
from fer_utils.models import build_model
from fer_utils.training import load_checkpoint

ID = "toy/table-1"
ARRAYS = {
    "guess": np.arange(5, dtype=np.int8), "losses": np.linspace(0, 1, 9, dtype=np.float16), "guess mSVM basic": np.array([True, False]),
}


@dataclass(frozen=True)
class Toy(Recipe):
    rates: tuple[float, ...] = (0.1, 0.01)
    SIZES: ClassVar = {}


@pytest.fixture
def writer(tmp_path):
    return RunContext(ID, Profile.SMOKE, "facsynth", 3, tmp_path / "work", data=str(tmp_path))


@pytest.fixture
def reader(tmp_path):
    return RunContext("toy/table-2", Profile.SMOKE, "facsynth", 3, tmp_path / "other", data=str(tmp_path))


def keep(writer, folder):
    """What the client does with a run's files."""
    return {name: put(folder / "checkpoints/smoke/facsynth" / ID, name, content) for name, content in writer.files.items()}


def test_a_network_is_read_as_it_was_left(writer, reader, tmp_path):
    model = build_model("base_dcnn", seed=1, width=0.05, input_size=24)
    writer.save_network("center loss", model, Toy())
    ((name, path),) = keep(writer, tmp_path).items()
    assert name == "center-loss-3.safetensors"
    found = reader.load_network(ID, "center loss")
    images = torch.rand(2, 1, 24, 24)
    torch.testing.assert_close(found(images), model.eval()(images), atol=1e-3, rtol=1e-2)  # half precision
    assert load_checkpoint(path)[1] == {"method": "center loss", "seed": 3, "dataset": "facsynth", "recipe": {"rates": [0.1, 0.01]}}
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"center-loss-3\.safetensors"):
        reader.load_network(ID, "center loss")
    with pytest.raises(DataError, match=rf"DLP-CNN-3\.safetensors: not found; .*ferbook reproduce {ID} --profile smoke"):
        reader.load_network(ID, "DLP-CNN")


def test_arrays_are_read_as_they_were_left(writer, reader, tmp_path):
    writer.save_arrays("lambda 0.1", ARRAYS)
    ((name, path),) = keep(writer, tmp_path).items()
    assert name == "lambda-0.1-3.npz"
    found = reader.load_arrays(ID, "lambda 0.1", ("guess",))
    assert list(found) == list(ARRAYS)
    for key, array in ARRAYS.items():
        np.testing.assert_array_equal(found[key], array, strict=True)
    with pytest.raises(DataError, match=r"lambda-0\.1-3\.npz: has no array 'wrong'; expected the arrays guess, wrong"):
        reader.load_arrays(ID, "lambda 0.1", ("guess", "wrong"))
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=r"lambda-0\.1-3\.npz: cannot be read"):
        reader.load_arrays(ID, "lambda 0.1")


def test_each_seed_has_its_own_file(writer, tmp_path):
    writer.save_arrays("DLP-CNN", ARRAYS)
    keep(writer, tmp_path)
    other = RunContext("toy/table-2", Profile.SMOKE, "facsynth", 4, tmp_path / "other", data=str(tmp_path))
    with pytest.raises(DataError, match=r"DLP-CNN-4\.npz: not found"):
        other.load_arrays(ID, "DLP-CNN")


@pytest.mark.parametrize("name", ["../x", "a/b", "", "."])
def test_a_file_has_a_plain_name(writer, name):
    with pytest.raises(ValueError, match="plain name"):
        writer.save_file(name, b"")


def test_a_file_is_left_once(writer):
    writer.save_arrays("DLP-CNN", ARRAYS)
    with pytest.raises(ValueError, match=r"left 'DLP-CNN-3\.npz' before"):
        writer.save_arrays("DLP-CNN", ARRAYS)


def test_arrays_hold_no_objects(writer):
    with pytest.raises(ValueError, match="the array 'a' holds objects; expected numbers or text"):
        writer.save_arrays("objects", {"a": np.array([object()])})
