import io
import os

import numpy as np
import pytest
from PIL import Image

from fer_utils.datasets import ckplus, facsynth
from fer_utils.errors import DataError
from fer_utils.facsynth import pack, produce
from fer_utils.facsynth.expressions import ACTION_UNITS
from fer_utils.facsynth.sets import plan_set


def _bytes(array, kind):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind)
    return buffer.getvalue()


def _marks(rng):
    """68 points of a plausible face in a 128x128 frame."""
    marks = np.tile([64.0, 64.0], (68, 1)) + rng.normal(0, 1, (68, 2))
    for points, place in ((range(36, 42), (50, 55)), (range(42, 48), (78, 55)), ([30], (64, 70)), ([48], (53, 88)), ([54], (75, 88))):
        marks[list(points)] += np.array(place) - 64
    return marks


def _picture(job, rng):
    marks = _marks(rng)
    truth = {
        "name": job.name, "split": job.split, "emotion": job.emotion, "label": job.label, "identity": job.person, "gender": 1, "race": 2,
        "age": 3, "intensity": 0.8, "stage": job.stage, "yaw": 3.0, "pitch": 1.0, "roll": -2.0, "light": "soft", "light_azimuth": 1.0,
        "light_elevation": 2.0, "light_sky": 0.5, "light_lamp": 1.0, "occlusion": "none", "blur": 0.0, "noise": 0.0, "gamma": 1.0,
        "exposure": 1.0, "filter": "none", "scale": 1.0, "jpeg_quality": 90, "bushy_eyebrows": False, "arched_eyebrows": True,
        "narrow_eyes": False, "eyeglasses": False, "big_lips": False, "mouth_slightly_open": True, "smiling": False,
        "misaligned": 1.5, "frame_points": marks.ravel().tolist(), "clicked_points": (ckplus.five_points(marks) + 2).ravel().tolist(),
    }
    truth |= {f"au_{au}": (0.7 * job.stage if au in (4, 12) else 0.0) for au in ACTION_UNITS}
    mask = rng.integers(0, 7, (100, 100)).astype(np.uint8)
    if job.set == "lab":
        image, frame = _bytes(rng.integers(0, 255, (128, 128), dtype=np.uint8), "PNG"), b""
    else:
        image = _bytes(rng.integers(0, 255, (100, 100, 3), dtype=np.uint8), "JPEG")
        frame = _bytes(rng.integers(0, 255, (128, 128, 3), dtype=np.uint8), "PNG") if job.split == "test" else b""
    return {"name": job.name, "image": image, "frame": frame, "mask": _bytes(mask, "PNG"), "truth": truth}


@pytest.fixture
def shards(tmp_path):
    rng = np.random.default_rng(0)
    found = {}
    for name in ("basic", "lab"):
        jobs = plan_set(name, 7)
        chosen = jobs[:8] if name == "lab" else [*jobs[:6], *[j for j in jobs if j.split == "test"][:2]]
        paths = []
        for start in range(0, 8, 4):
            paths.append(tmp_path / f"{name}{start}.parquet")
            produce.write_shard(paths[-1], [_picture(job, rng) for job in chosen[start : start + 4]])
        found[name] = paths
    return found


def test_packed_faces_load_through_the_real_layouts(shards, tmp_path, monkeypatch):
    pack.pack_sets(shards, tmp_path / "data" / "facsynth", 7)
    monkeypatch.setenv("FER_DATA", str(tmp_path / "data"))
    _, truth = pack.read_shards(shards["basic"])
    faces = facsynth.load("basic", masks=True)
    assert len(faces) == 8 and [n.removesuffix(".jpg") for n in faces.names] == truth["name"].tolist()
    assert [faces.classes[k] for k in faces.labels] == truth["emotion"].tolist()
    assert faces.identities.tolist() == truth["identity"].tolist()
    assert faces.masks.shape == (8, 100, 100) and faces.masks.max() == 6
    assert faces.attributes.iloc[0].to_dict() == {"gender": "female", "race": "Asian", "age": "40-69"}
    of_first = faces.votes.loc[faces.votes["task"] == faces.names[0], "label"]
    assert faces.distributions[0, faces.labels[0]] == pytest.approx(np.mean(of_first == faces.labels[0] + 1), abs=1e-4)
    frames = facsynth.load("basic", aligned=False)
    assert len(frames) == 2 and frames.images.shape[1:] == (128, 128, 3)
    marks = np.array(truth["frame_points"].iloc[6]).reshape(68, 2)
    np.testing.assert_allclose(frames.landmarks[0], ckplus.five_points(marks) + 2, atol=0.006)
    np.testing.assert_allclose(frames.landmarks_dense[0], produce.dense_points(marks), atol=0.06)

    lab = facsynth.load("lab", frames="all", classes=8, masks=True)
    assert len(lab) == 8 and lab.images.shape == (8, 100, 100)
    assert sorted(lab.truth["stage"].unique()) == [0.0, 0.86, 0.95, 1.0]


@pytest.fixture
def more_shards(tmp_path):
    rng = np.random.default_rng(1)
    path = tmp_path / "more.parquet"
    produce.write_shard(path, [_picture(job, rng) for job in plan_set("basic-more", 7)[:5]])
    return {"basic-more": [path]}


def test_sets_that_were_not_rendered_stay(shards, more_shards, tmp_path, monkeypatch):
    out = tmp_path / "data" / "facsynth"
    pack.pack_sets(shards, out, 7)
    before = {path.relative_to(out): path.read_bytes() for path in out.rglob("*.zip")}
    monkeypatch.setenv("FER_DATA", str(tmp_path / "data"))
    few = facsynth.load("basic", masks=True)
    pack.pack_sets(more_shards, out, 7)
    assert all((out / name).read_bytes() == content for name, content in before.items())
    faces = facsynth.load("basic", masks=True, more=True)
    assert len(faces) == 13 and len(faces.test) == 2 + 5 and len(facsynth.load("basic")) == 8
    assert (faces.train.images == few.train.images).all() and (faces.images[:8] == few.images).all()
    assert set(faces.test.names[2:]) == {f"{job.name}.jpg" for job in plan_set("basic-more", 7)[:5]}
    assert not set(faces.train.identities) & set(faces.test.identities)
    assert set(faces.votes["task"]) == set(faces.names)
    assert len(facsynth.load("basic", split="train", more=True)) == 6


def test_sets_of_another_seed_are_not_mixed(shards, more_shards, tmp_path):
    pack.pack_sets(shards, tmp_path / "faces", 7)
    with pytest.raises(DataError, match=r"holds faces of generator .*, seed 7; expected those of generator .*, seed 8"):
        pack.pack_sets(more_shards, tmp_path / "faces", 8)
    assert facsynth.verify(tmp_path / "faces")


def test_a_folder_that_is_no_packed_one_is_not_replaced(shards, tmp_path):
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces" / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match=r"conditions\.json"):
        pack.pack_sets(shards, tmp_path / "faces", 7)
    assert (tmp_path / "faces" / "thesis.txt").read_text() == "mine"


def test_there_are_no_more_lab_faces():
    with pytest.raises(ValueError, match="no more faces of the lab set"):
        facsynth.load("lab", more=True)
    with pytest.raises(ValueError, match="aligned only"):
        facsynth.load("basic", more=True, aligned=False)


def test_packing_twice_gives_the_same_bytes(shards, tmp_path):
    for out in ("a", "b"):
        pack.pack_sets(shards, tmp_path / out, 7)
    assert (tmp_path / "a/SHA256SUMS").read_text() == (tmp_path / "b/SHA256SUMS").read_text()
    for path in (tmp_path / "a").rglob("*.zip"):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


def test_a_failure_leaves_the_old_faces_whole(shards, tmp_path, monkeypatch):
    out = tmp_path / "faces"
    pack.pack_sets(shards, out, 7)
    before = (out / "SHA256SUMS").read_text()
    monkeypatch.setattr(pack, "write_checksums", lambda root: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        pack.pack_sets(shards, out, 8)
    assert (out / "SHA256SUMS").read_text() == before


def test_checksums_cover_every_other_file(shards, tmp_path):
    pack.pack_sets(shards, tmp_path / "faces", 7)
    listed = {line.split("  ")[1] for line in (tmp_path / "faces/SHA256SUMS").read_text().splitlines()}
    present = {p.relative_to(tmp_path / "faces").as_posix() for p in (tmp_path / "faces").rglob("*") if p.is_file()}
    assert listed == present - {"SHA256SUMS"}


def test_only_missing_shards_are_rendered(tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    rng, calls = np.random.default_rng(0), []

    class Future:
        def __init__(self, value):
            self.value = value

        def result(self):
            return self.value

        def release(self):
            pass

    class Client:
        def __init__(self, address, timeout):
            assert address == "tcp://somewhere:1"

        def submit(self, make, jobs, seed, pure):
            calls.append([job.name for job in jobs])
            return Future([_picture(job, rng) for job in jobs])

        def close(self):
            pass

    monkeypatch.setattr("dask.distributed.Client", Client)
    monkeypatch.setattr("dask.distributed.as_completed", iter)
    done = produce.render_sets(["lab"], tmp_path, 7, scheduler="tcp://somewhere:1", limit=70)["lab"]
    assert [len(c) for c in calls] == [32, 32, 6] and all(p.is_file() for p in done)
    os.remove(done[1])
    calls.clear()
    assert produce.render_sets(["lab"], tmp_path, 7, scheduler="tcp://somewhere:1", limit=70)["lab"] == done
    assert len(calls) == 1 and calls[0][0] == plan_set("lab", 7)[32].name
    assert not list(tmp_path.rglob("*.partial"))
    other = produce.render_sets(["lab"], tmp_path, 8, scheduler="tcp://somewhere:1", limit=4)["lab"]
    assert other[0] not in done
