"""Data that stay on disk: the same training as in memory, one clear error, and no more memory than a few batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import image_bytes, put
from PIL import Image
from test_training import QUICK, make_faces, make_model, same, weights
from torch.utils.data import DataLoader, Dataset, Subset, WeightedRandomSampler

from fer_utils.datasets.base import FaceDataset
from fer_utils.datasets.images import load_images
from fer_utils.datasets.source import Source
from fer_utils.errors import DataError
from fer_utils.training import Balanced, BalancedLabels, FitSettings, Pairs, extract_features, fit, predict
from fer_utils.training.data import find_labels, open_data

pytestmark = pytest.mark.usefixtures("one_thread")

WHERE = torch.device("cpu")


class Theirs(Dataset):
    """A dataset as a reader has it: pictures and labels, and no word of how many classes."""

    def __init__(self, faces: FaceDataset, kind: str = "array") -> None:
        self.faces, self.kind = faces, kind

    def __len__(self) -> int:
        return len(self.faces)

    def __getitem__(self, i):
        image, label = self.faces.images[i], self.faces.labels[i]
        if self.kind == "pillow":
            return Image.fromarray(image), int(label)
        if self.kind == "tensor":
            return torch.tensor(image)[None], label
        if self.kind == "column":
            return image, label, {"bright": np.float32(image.mean())}
        return image, label


@pytest.fixture
def on_disk(tmp_path) -> FaceDataset:
    """The toy faces as PNG files, not decoded."""
    faces = make_faces()
    for name, image in zip(faces.names, faces.images, strict=True):
        Image.fromarray(image).save(tmp_path / name)
    return faces.replace(images=load_images(Source(tmp_path), faces.names, mode="L"))


def train(data, **options):
    model = make_model()
    history = fit(model, data, FitSettings(**QUICK), **options)
    return history.losses, weights(model)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_training_from_disk_is_the_training_in_memory(on_disk, workers):
    losses, expected = train(make_faces())
    found, streamed = train(on_disk, workers=workers)
    assert np.array_equal(losses, found) and same(expected, streamed)
    assert not isinstance(on_disk.__dict__["images"], np.ndarray), "its images still wait on disk"


@pytest.mark.parametrize("kind", ["array", "pillow", "tensor", "column"])
def test_any_dataset_of_images_and_labels_will_do(kind):
    losses, expected = train(make_faces())
    for data in (Theirs(make_faces(), kind), DataLoader(Theirs(make_faces(), kind), batch_size=16, shuffle=True, num_workers=1)):
        found, streamed = train(data)
        assert np.array_equal(losses, found) and same(expected, streamed)


def test_samplers_and_columns_work_from_disk(on_disk):
    column = {"smile": np.arange(120) % 2}
    for sampler in (Balanced(), Pairs(), BalancedLabels("smile")):
        losses, expected = train(make_faces(), sampler=sampler, columns=column)
        found, streamed = train(on_disk, sampler=sampler, columns=column, workers=1)
        assert np.array_equal(losses, found) and same(expected, streamed)


def test_validation_from_disk(on_disk):
    settings = FitSettings(**{**QUICK, "validation_share": 0.25, "validate_every": 4})
    histories = [fit(make_model(), data, settings, workers=workers) for data, workers in ((make_faces(), None), (on_disk, 1))]
    assert histories[0].validations == histories[1].validations
    with pytest.raises(ValueError, match="a validation_share of Theirs cannot be cut by people; give held_back the positions"):
        fit(make_model(), Theirs(make_faces()), settings)
    fit(make_model(), Theirs(make_faces()), FitSettings(**QUICK), held_back=np.arange(30))


def test_a_training_from_disk_resumes(tmp_path, on_disk, stop_after):
    _, expected = train(make_faces())
    path = tmp_path / "run" / "state.safetensors"
    stop_after(5)
    with pytest.raises(InterruptedError):
        train(on_disk, workers=1, checkpoint=path, checkpoint_seconds=0)
    stop_after(None)
    _, resumed = train(on_disk, workers=1, checkpoint=path)
    assert same(expected, resumed)
    images = make_faces().images.copy()
    images[0, 3, 3] ^= 1
    with pytest.raises(DataError, match="of another training"):
        train(make_faces(images=images), workers=0, checkpoint=path)


def test_features_and_predictions_from_disk(on_disk):
    model, faces = make_model(), make_faces()
    expected, guess = extract_features(model, faces.images), predict(model, faces)
    for data, workers in ((on_disk, 0), (on_disk, 2), (Theirs(faces), None), (DataLoader(Theirs(faces), batch_size=7), None)):
        np.testing.assert_allclose(extract_features(model, data, workers=workers), expected, rtol=1e-5, atol=1e-6)
        assert np.array_equal(predict(model, data, workers=workers), guess)


def test_images_of_many_sizes_need_an_image_size(tmp_path):
    class Sizes(Theirs):
        def __getitem__(self, i):
            image, label = super().__getitem__(i)
            return (image[:26] if i == 77 else image), label

    with pytest.raises(DataError, match="images of 28x26 and 28x28 pixels in one dataset; expected one size, or"):
        fit(make_model(), Sizes(make_faces()), FitSettings(**QUICK))
    fit(make_model(image_size=26), Sizes(make_faces()), FitSettings(**QUICK))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_image_is_one_error_that_names_it(tmp_path, on_disk, workers):
    (tmp_path / "0077.png").write_bytes(b"\x89PNG and no more")
    with pytest.raises(DataError, match=r"0077.png: cannot be decoded") as error:
        train(on_disk, workers=workers)
    assert "Traceback" not in str(error.value) and len(str(error.value)) < 400


def test_what_is_no_dataset_of_images():
    class Floats(Theirs):
        def __getitem__(self, i):
            image, label = super().__getitem__(i)
            return image / 255, label

    faces = make_faces()
    with pytest.raises(DataError, match=r"sample 0: images must be uint8"):
        fit(make_model(), Floats(faces), FitSettings(**QUICK))
    with pytest.raises(ValueError, match="Theirs has images of 28x28, the network takes 40; set its image_size"):
        fit(make_model(input_size=40), Theirs(faces), FitSettings(**QUICK))
    with pytest.raises(ValueError, match="the DataLoader has batches of 8, the settings of 16"):
        fit(make_model(), DataLoader(Theirs(faces), batch_size=8), FitSettings(**QUICK))
    drawn = DataLoader(Theirs(faces), batch_size=16, sampler=WeightedRandomSampler(np.ones(120), 120))
    with pytest.raises(ValueError, match="draws by WeightedRandomSampler, which a resumed training cannot go on with"):
        fit(make_model(), drawn, FitSettings(**QUICK))
    with pytest.raises(ValueError, match="Balanced needs labels of each sample; known: nothing"):
        fit(make_model(), Theirs(faces), FitSettings(**QUICK), sampler=Balanced())
    with pytest.raises(ValueError, match="Subset holds no samples"):
        fit(make_model(), Subset(Theirs(faces), []), FitSettings(**QUICK))


def test_labels_are_found_without_reading_images():
    faces = make_faces()
    theirs = Theirs(faces)
    assert find_labels(theirs) is None
    theirs.targets = faces.labels.tolist()  # torchvision's name
    assert np.array_equal(find_labels(theirs), faces.labels)
    assert np.array_equal(find_labels(Subset(theirs, [3, 1])), faces.labels[[3, 1]])


def test_a_subset_in_memory_takes_no_more_than_its_own(on_disk):
    some = on_disk.subset([7, 3, 90])
    assert np.array_equal(some.images, make_faces().images[[7, 3, 90]])
    store = on_disk.__dict__["images"]._store
    assert sum(part.nbytes for part in store._parts) == 3 * 28 * 28, "room for three images, not for all"
    more = on_disk.subset([3, 8, 7])
    assert np.array_equal(more.images, make_faces().images[[3, 8, 7]])
    assert [len(part) for part in store._parts] == [3, 1], "what is there is not decoded again"
    assert np.array_equal(on_disk.images, make_faces().images)


def test_only_a_few_images_are_read_before_the_first_step(tmp_path):
    for i in range(200):
        put(tmp_path, f"{i:03d}.png", image_bytes(i, (28, 28), "L", "PNG"))
    read = []
    source = Source(tmp_path)
    images = load_images(source, source.names, mode="L", finish=lambda image, i: read.append(i) or image)
    faces = make_faces(200, images=images, names=np.array(source.names))
    opened = open_data(faces, make_model(), WHERE, workers=0)
    assert len(set(read)) <= 17
    (batch,) = opened.read([torch.tensor([5, 3, 5])])
    assert batch["indices"].tolist() == [5, 3, 5] and torch.equal(batch["images"][0], batch["images"][2])
