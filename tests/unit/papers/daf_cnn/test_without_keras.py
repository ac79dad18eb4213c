"""Who does not ask for this paper's networks needs no Keras."""

import subprocess
import sys

SCRIPT = """
import sys
sys.modules["keras"] = None
from fer_utils.discovery import list_papers
from fer_utils.experiments import list_experiments, load_published
from fer_utils.models import list_models
from fer_utils.papers.daf_cnn import recipe
assert "daf-cnn" in list_papers() and load_published("daf-cnn").claims and recipe.DAFCNN().at("book").width < 1
list_experiments(), list_models()
try:
    from fer_utils.papers.daf_cnn import model
except ImportError as error:
    print(error)
"""


def test_the_rest_of_the_package_works():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "DAF-CNN needs Keras 3 and its backend " in done.stdout and "pip install 'fer-utils[book]'" in done.stdout
