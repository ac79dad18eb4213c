"""The same network on another backend: the scores of the saved file, the losses of its steps, and a training that goes on there."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from fer_utils.papers.daf_cnn.backend import keras
from fer_utils.papers.daf_cnn.model import build_daf_cnn
from fer_utils.papers.daf_cnn.objective import JointSupervision, TripletCenterLoss

UNIT = Path(__file__).parents[2]
#: Each backend draws dropout and windows in its own way: there are none here.
SETTINGS = {"input_size": 24, "convolutions": (1, 1), "channels": (8, 16), "pools": 2, "dense": 32, "embedding_size": 8, "dropout": 0.0}
COMPARED = """
import sys
import numpy as np
folder, images, labels = sys.argv[2], *np.load(sys.argv[2] + "/faces.npz").values()
sys.path.insert(0, sys.argv[1])
from papers.daf_cnn.test_backends import take_steps
from fer_utils.papers.daf_cnn.backend import keras
model = keras.models.load_model(folder + "/model.keras")
np.savez(folder + "/found.npz", **take_steps(model, images, labels))
"""
RESUMED = """
import sys
sys.path.insert(0, sys.argv[1])
from dataclasses import replace
import numpy as np
from papers.daf_cnn.conftest import toy_faces, toy_recipe
from fer_utils.papers.daf_cnn import training
from fer_utils.papers.daf_cnn.objective import make_objective
recipe, faces = toy_recipe(patience=1, min_delta=1.0, epochs=3), toy_faces(28)
drawn, calls = training.DrawnBatches.__getitem__, []
def draw(self, number):
    calls.append(self.epoch)
    if self.epoch == 2 and len(sys.argv) > 3:
        del sys.argv[3]
        raise KeyboardInterrupt
    return drawn(self, number)
training.DrawnBatches.__getitem__ = draw
def run(name):
    model = make_objective(training.build_network(recipe), recipe)
    return training.train(model, faces, faces, recipe, checkpoint=sys.argv[2] + "/" + name)
try:
    run("parts")
    raise SystemExit("expected an interruption")
except KeyboardInterrupt:
    pass
del calls[:]
parts = run("parts")
assert 1 not in calls, calls
whole = run("whole")
assert parts.logs == whole.logs and parts.plateau.reloads == whole.plateau.reloads == [1, 2], (parts.logs, whole.logs)
for first, second in zip(parts.model.get_weights(), whole.model.get_weights(), strict=True):
    np.testing.assert_array_equal(first, second)
"""


def take_steps(model, images, labels):
    """Scores, and the losses and centres of two steps."""
    found = {"scores": model.predict(images, verbose=0)["scores"]}
    model.compile(keras.optimizers.SGD(0.01))
    history = model.fit(images, labels, batch_size=14, epochs=2, shuffle=False, verbose=0).history
    found |= {name: np.array(values) for name, values in history.items()}
    return found | {"centres": keras.ops.convert_to_numpy(model.metric_loss.centres)}


def run_on(backend, script, *arguments):
    if not find_spec(backend):
        pytest.skip(f"{backend} is not installed")
    environment = {**os.environ, "KERAS_BACKEND": backend}
    done = subprocess.run([sys.executable, "-c", script, str(UNIT), *arguments], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_the_same_numbers(toy, tmp_path, backend):
    model = JointSupervision(build_daf_cnn(**SETTINGS), TripletCenterLoss(7, 8, reduction="sum"), 0.007)
    images, labels = toy.faces(14, size=24)
    model.save(tmp_path / "model.keras")
    images = images // 2 + images[:, :, ::-1] // 2  # each its own mirror image: which are mirrored is drawn
    np.savez(tmp_path / "faces.npz", images=images, labels=labels)
    run_on(backend, COMPARED, str(tmp_path))
    wanted = take_steps(model, images, labels)
    with np.load(tmp_path / "found.npz") as found:
        assert set(found) == set(wanted)
        for name, value in wanted.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_a_training_goes_on(tmp_path, backend):
    """Interrupted in its third epoch, it ends with the weights of one that was not, on that backend."""
    run_on(backend, RESUMED, str(tmp_path), "interrupt")
