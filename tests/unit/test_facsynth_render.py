"""Real renders: only where the extra ``synth`` is installed."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from fer_utils.datasets import ckplus, facsynth
from fer_utils.datasets.source import Source
from fer_utils.errors import DataError
from fer_utils.facsynth import geometry, produce, render
from fer_utils.facsynth.appearance import REGIONS
from fer_utils.facsynth.sets import plan_set
from fer_utils.preprocess import TEMPLATE_5, similarity_transform, warp_points

pytest.importorskip("anny")
pytest.importorskip("mitsuba")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def jobs():
    basic = plan_set("basic", 7)
    return [*basic[:2], next(j for j in basic if j.split == "test")]


@pytest.fixture(scope="module")
def pictures(jobs):
    return produce.make_pictures(jobs, 7)


def test_same_seed_same_bytes_in_any_order(jobs, pictures):
    again = produce.make_pictures(jobs[::-1], 7)[::-1]
    for first, second in zip(pictures, again, strict=True):
        assert first == second
    assert produce.make_pictures(jobs[1:2], 7)[0] == pictures[1], "a picture depends on those it is rendered with"
    other = produce.make_pictures(plan_set("basic", 8)[:1], 8)[0]
    assert other["image"] != pictures[0]["image"]


def test_a_picture_shows_a_face(pictures):
    for picture in pictures:
        image = np.asarray(Image.open(io.BytesIO(picture["image"])))
        assert image.shape == (100, 100, 3) and image.std() > 10
        mask = np.asarray(Image.open(io.BytesIO(picture["mask"])))
        assert (mask == REGIONS["face"]).mean() > 0.1 and set(np.unique(mask)) <= set(REGIONS.values())
        marks = np.array(picture["truth"]["frame_points"]).reshape(68, 2)
        five = ckplus.five_points(marks)
        assert np.abs(warp_points(five, similarity_transform(five)) - TEMPLATE_5).max() < 20
        clicked = np.array(picture["truth"]["clicked_points"]).reshape(5, 2)
        moved = warp_points(marks, similarity_transform(clicked)) - warp_points(marks, similarity_transform(five))
        assert picture["truth"]["misaligned"] == pytest.approx(np.hypot(*moved.T).mean(), abs=1e-3)
        assert 0 < np.abs(clicked - five).max() < 15
    assert pictures[2]["frame"] and not pictures[0]["frame"]


def test_eyes_and_mouth_lie_where_the_landmarks_say():
    jobs = [j for j in plan_set("lab", 7) if j.stage == 1][:2]
    for picture in produce.make_pictures(jobs, 7):
        assert picture["truth"]["misaligned"] == 0
        mask = np.asarray(Image.open(io.BytesIO(picture["mask"])))
        for code, places in ((REGIONS["eyes"], TEMPLATE_5[:2]), (REGIONS["mouth"], TEMPLATE_5[3:].mean(0, keepdims=True))):
            rows, columns = np.nonzero(mask == code)
            assert len(rows) > 20
            for x, y in places:
                assert np.hypot(columns - x, rows - y).min() < 8


@pytest.mark.parametrize("view", [{"shift": (0.08, -0.05)}, {"yaw": 25.0}, {"pitch": -12.0}, {"roll": 20.0}, {"zoom": 0.92}], ids=str)
def test_landmarks_follow_the_camera(view):
    model = geometry.load_head_model()
    shot, *_ = produce._describe(next(j for j in plan_set("lab", 7) if j.stage == 0), model, 7)
    shot = replace(shot, view=replace(render.View(), **view))
    person = ([shot.person.phenotype], [shot.person.shape])
    vertices = model.vertices(*person, [shot.actions])[0]
    _, regions, marks = render.render_shot(model, shot, vertices, model.vertices(*person, [{}])[0])
    for code, points in ((REGIONS["eyes"], slice(36, 48)), (REGIONS["mouth"], slice(48, 60))):
        rows, columns = np.nonzero(regions == code)
        assert abs(columns.mean() + 0.5 - marks[points, 0].mean()) < 3 and abs(rows.mean() + 0.5 - marks[points, 1].mean()) < 3


def test_the_shipped_faces_are_these(jobs, pictures):
    try:
        source = Source(facsynth.find_root() / "raf/basic/Image/aligned.zip")
    except DataError:
        pytest.skip("the faces have not been rendered")
    shipped = [source.read(f"{job.name}_aligned.jpg") for job in jobs]
    if [picture["image"] for picture in pictures] == shipped:
        return
    # Another processor may round otherwise: the same faces, not the same bytes.
    for picture, data in zip(pictures, shipped, strict=True):
        ours, theirs = (np.asarray(Image.open(io.BytesIO(d))).astype(int) for d in (picture["image"], data))
        assert np.abs(ours - theirs).mean() < 3
