"""Where LBAN looks: measures that can be worked out by hand, and maps that are what they are said to be."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fer_utils.augment import center_crop
from fer_utils.papers.lban_il.attention import (
    PARTS,
    compute_attention,
    compute_cam,
    crop_regions,
    measure_lift,
    score_maps,
)
from fer_utils.papers.lban_il.networks import build_network

from .toys import TINY, make_faces

pytestmark = pytest.mark.usefixtures("one_thread")


def make_masked():
    """Eyes in the upper left quarter of what is seen, the mouth in the lower right; the first face has no mouth."""
    faces = make_faces(28)
    masks = np.zeros((28, 30, 30), np.uint8)
    masks[:, 3:15, 3:15] = 3
    masks[1:, 15:27, 15:27] = 5
    return faces.replace(masks=masks)


def test_lift_by_hand():
    region = np.zeros((2, 4, 4), bool)
    region[0, :2, :2] = True
    inside, even = region[:1].astype(np.float32), np.ones((1, 4, 4), np.float32)
    np.testing.assert_allclose(measure_lift(inside, region[:1]), 4)
    np.testing.assert_allclose(measure_lift(even, region[:1]), 1)
    np.testing.assert_allclose(measure_lift(1 - inside, region[:1]), 0)
    np.testing.assert_allclose(measure_lift(even + inside, region[:1]), 2 / 1.25)
    assert np.isnan(measure_lift(even, region)[1]), "there is no region"
    assert np.isnan(measure_lift(0 * even, region[:1])[0]), "there is no map"


def test_regions_are_cut_as_faces_are():
    """Of 100 pixels the book sees 40 of 50 and the paper 80: the middle 80 of the masks."""
    faces = torch.arange(100, dtype=torch.uint8).expand(1, 1, 100, 100)
    expected = center_crop(faces, 80)[0, 0].numpy()
    for sizes in ({"input_size": 40, "image_size": 50}, {"input_size": 80, "image_size": None}):
        np.testing.assert_array_equal(crop_regions(faces[0].numpy(), replace(TINY, **sizes))[0], expected)


def test_a_map_that_is_the_region_scores_best():
    faces = make_masked()
    seen = crop_regions(faces.masks, TINY)
    assert seen.shape == (28, 24, 24)
    maps = np.isin(seen, PARTS["organs"]).astype(np.float32)
    score = score_maps("row", maps, faces, TINY)
    assert score.metrics["pointing"] == 1
    # one quarter of the first face, two quarters of the others
    np.testing.assert_allclose(score.values["attention lift"], [4, *[2] * 27])
    np.testing.assert_allclose(score.values["attention lift eyes"], [4, *[2] * 27])
    assert np.isnan(score.values["attention lift mouth"][0])
    surprised = faces.labels == faces.classes.index("surprise")
    np.testing.assert_array_equal(np.isnan(score.values["attention lift mouth surprise"])[1:], ~surprised[1:])
    assert score.metrics["attention lift mouth surprise"] == pytest.approx(2)
    np.testing.assert_array_equal(score.people, faces.identities)
    even = score_maps("row", np.ones((1, 24, 24), np.float32), faces, TINY)
    np.testing.assert_allclose(even.values["attention lift"], 1, rtol=1e-6)


def test_attention_is_a_mean_over_channels():
    model, images = build_network("LBAN", TINY, 0).eval(), make_faces(5).images
    found = compute_attention(model, images)
    seen = center_crop(torch.tensor(images).permute(0, 3, 1, 2), 24) / 255
    with torch.inference_mode():
        expected = [each.mean(1).numpy() for each in model.attend(seen)]
    assert [each.shape for each in found] == [(5, 12, 12), (5, 6, 6), (5, 3, 3)]
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_cam_explains_what_the_network_says():
    """Behind the last block all is linear in evaluation: the mean gradient of a channel follows from the weights."""
    torch.manual_seed(0)
    model, images = build_network("LBAN", TINY, 0).eval(), make_faces(6).images
    torch.nn.init.normal_(model.classifier.weight)
    found = compute_cam(model, images)
    seen = center_crop(torch.tensor(images).permute(0, 3, 1, 2), 24) / 255
    with torch.inference_mode():
        maps = model.body[: [name for name, _ in model.body.named_children()].index("pool")](seen)
        guess = model(seen).argmax(1)
        flat = (model.classifier.weight * (model.body.norm.weight / (model.body.norm.running_var + 1e-5).sqrt())) @ (
            model.body.hidden.weight
        )  # [K, C * 2 * 2]
    # an average pooling that rounds up 3 pixels to 2: every pixel's gradient is spread, their sum is not
    weights = flat.view(7, maps.shape[1], 4).sum(2)[guess] / 9
    expected = (weights[:, :, None, None] * maps).sum(1).relu()
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-3, atol=1e-4)
    assert found.max() > 0
