import numpy as np
import pytest

from fer_utils.facsynth.conditions import (
    CLICK_ERROR,
    OCCLUSIONS,
    background,
    click_points,
    develop,
    sample_camera,
    sample_light,
    sample_occlusion,
    sample_view,
)
from fer_utils.facsynth.expressions import (
    ACTION_UNITS,
    EMOTION_AUS,
    LAB_PROTOTYPES,
    actions_from_aus,
    sample_lab,
    sample_wild,
)
from fer_utils.facsynth.identity import RACE_SHARES, sample_identity
from fer_utils.labels import BASIC, COMPOUND_12
from fer_utils.preprocess import TEMPLATE_5


def rng(seed=0):
    return np.random.default_rng(seed)


def test_every_emotion_has_units_that_the_generator_knows():
    assert set(EMOTION_AUS) == {*BASIC, *COMPOUND_12}
    for core, variants in EMOTION_AUS.values():
        assert {*core, *variants} <= set(ACTION_UNITS)
        assert all(0 < share < 1 for share in variants.values())


@pytest.mark.parametrize("emotion", [*BASIC, *COMPOUND_12])
def test_wild_expressions_stay_in_range(emotion):
    for seed in range(50):
        face = sample_wild(emotion, rng(seed))
        assert set(face.aus) <= set(ACTION_UNITS)
        assert all(0 < v <= 1 for v in face.aus.values())
        assert all(v <= 1.6 for v in face.actions.values())
        assert (face.intensity == 0) == (emotion == "neutral")


def test_core_units_show_in_most_faces():
    for emotion in BASIC[:6]:
        core = EMOTION_AUS[emotion][0]
        faces = [sample_wild(emotion, rng(seed)) for seed in range(200)]
        # A dropped jaw may be a stretched one in the wild; pressed lips give way to parted ones.
        seen = {au: np.mean([au in face.aus or (au == 26 and 27 in face.aus) for face in faces]) for au in core if au != 24}
        assert min(seen.values()) > 0.85, (emotion, seen)


def test_same_seed_same_face():
    assert sample_wild("fear", rng(5)) == sample_wild("fear", rng(5))


def test_lab_sequence_grows_to_the_apex():
    for emotion in LAB_PROTOTYPES:
        onset, middle, apex = sample_lab(emotion, rng(1), (0.0, 0.5, 1.0))
        assert not onset.aus and not any(onset.actions.values())
        assert all(middle.aus[au] == pytest.approx(v / 2) for au, v in apex.aus.items())


def test_contempt_is_one_sided():
    apex = sample_lab("contempt", rng(2), (1.0,))[0]
    assert min(apex.actions["mouthDimpleLeft"], apex.actions["mouthDimpleRight"]) == 0
    assert max(apex.actions["mouthDimpleLeft"], apex.actions["mouthDimpleRight"]) > 0.3


def test_asymmetry_weakens_one_side():
    actions = actions_from_aus({12: 1.0}, tilt=0.3)
    assert actions["mouthSmileRight"] != actions["mouthSmileLeft"]
    assert actions_from_aus({12: 1.0})["mouthSmileRight"] == actions_from_aus({12: 1.0})["mouthSmileLeft"]


@pytest.mark.parametrize("sample", [lambda: sample_wild("joy", rng()), lambda: sample_lab("joy", rng(), (1.0,))])
def test_unknown_emotion(sample):
    with pytest.raises(ValueError, match="expected one of"):
        sample()


def test_identities_follow_the_published_shares():
    people = [sample_identity(i, 7, ("l-cheek-bones-incr", "r-cheek-bones-incr")) for i in range(3000)]
    races = np.bincount([p.race for p in people], minlength=3) / 3000
    assert np.abs(races - RACE_SHARES).max() < 0.03
    genders = np.bincount([p.gender for p in people], minlength=3) / 3000
    assert np.abs(genders - (0.43, 0.52, 0.05)).max() < 0.03
    assert all(p.age == 0 for p in people if p.gender == 2)
    assert sample_identity(4, 7, ()) == sample_identity(4, 7, ())


def test_conditions_stay_in_range():
    assert sum(OCCLUSIONS.values()) == pytest.approx(1)
    for seed in range(200):
        generator = rng(seed)
        view, light, camera = sample_view(generator), sample_light(generator), sample_camera(generator)
        assert abs(view.yaw) <= 60 and abs(view.pitch) <= 32 and abs(view.roll) <= 30
        assert light.sky > 0 and light.lamp > 0
        assert 0.3 <= camera.scale <= 1 and 40 <= camera.jpeg_quality <= 95
        assert sample_occlusion(generator) in OCCLUSIONS


@pytest.mark.parametrize("squeeze", [1.0, 0.4], ids=["frontal", "turned"])
def test_clicks_miss_by_a_share_of_the_face(squeeze):
    face = 1.3 * np.array(TEMPLATE_5, dtype=float)
    face[:, 0] *= squeeze  # a turned head brings the eyes together, the face does not shrink
    misses = np.stack([click_points(face, rng(seed)) - face for seed in range(2000)])
    unit = 1.3 * 37
    assert np.abs(misses.mean(0)).max() < 0.2 and misses.std(0) == pytest.approx(np.full((5, 2), CLICK_ERROR * unit), rel=0.1)
    np.testing.assert_array_equal(click_points(face, rng(1)), click_points(face, rng(1)))


def test_development_keeps_the_frame():
    generator = rng(3)
    scene = background(generator)
    colour = np.zeros((*scene.shape[:2], 4), dtype=np.float32)
    colour[30:90, 30:90] = (0.3, 0.2, 0.15, 1.0)
    picture = develop(colour, scene, sample_camera(generator), generator)
    assert picture.dtype == np.uint8 and picture.shape == scene.shape
    assert picture[40:80, 40:80].std() < picture.std()
