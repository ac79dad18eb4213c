"""Draw the front page's pictures from rendered faces: ``python .ci/front_pictures.py [ROOT]`` (default: this repository).

One test face of FACSynth a word, chosen by the renderer's own truth: seen from the front, nothing covered, in colour, sharp, and the
strongest expression. ``book/_static/words.webp`` is the strip, ``logo.png`` four of them, ``favicon.png`` the happy one.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from fer_utils.datasets import facsynth

LOGO_WORDS = ("happiness", "surprise", "sadness", "anger")


def pick_faces() -> dict[str, np.ndarray]:
    """The clearest face of each word, uint8 ``[100, 100, 3]``."""
    faces = facsynth.load("basic").test
    truth = faces.truth
    clear = (
        (truth.yaw.abs() < 12) & (truth.pitch.abs() < 8) & (truth.occlusion == "none") & (truth["filter"] == "none")
        & (truth.blur == 0) & (truth.age >= 2) & (truth.exposure > 0.9) & (truth.misaligned < 2)
    ).to_numpy()
    strength = truth.intensity.to_numpy()
    places = {word: np.flatnonzero(clear & (faces.labels == k)) for k, word in enumerate(faces.classes)}
    return {word: faces.images[found[np.argmax(strength[found])]] for word, found in places.items()}


def main(root: Path) -> None:
    faces = pick_faces()
    static = root / "book" / "_static"
    static.mkdir(parents=True, exist_ok=True)
    strip = Image.fromarray(np.concatenate(list(faces.values()), axis=1))
    strip.resize((strip.width * 2, strip.height * 2), Image.Resampling.LANCZOS).save(static / "words.webp", "WEBP", quality=90, method=6)
    four = [faces[word] for word in LOGO_WORDS]
    Image.fromarray(np.concatenate([np.concatenate(four[:2], axis=1), np.concatenate(four[2:], axis=1)])).save(static / "logo.png")
    Image.fromarray(faces["happiness"]).resize((64, 64), Image.Resampling.LANCZOS).save(static / "favicon.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent)
