"""The front page: its pictures are what the script draws, its numbers those of the ledger."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from fer_utils.experiments import list_ledgers, summarise_ledger

ROOT = Path(__file__).resolve().parents[2]
SITE = (ROOT / os.environ.get("BUILD_DIR", "_build_test/_build/html")).resolve()


def test_the_pictures_are_those_that_the_script_draws(tmp_path):
    subprocess.run([sys.executable, ROOT / ".ci" / "front_pictures.py", tmp_path], check=True, timeout=120)
    for name in ("words.webp", "logo.png", "favicon.png"):
        drawn, kept = (np.asarray(Image.open(root / "book" / "_static" / name), dtype=float) for root in (tmp_path, ROOT))
        assert drawn.shape == kept.shape and np.abs(drawn - kept).mean() < 2, f"{name}: run python .ci/front_pictures.py"


def test_the_numbers_are_those_of_the_ledger():
    page = (SITE / "book" / "index.html").read_text(encoding="utf-8")
    shown = re.findall(r"<td>(\d+)\s%</td><td>(\d+) to (\d+)</td>", page)
    assert len(shown) == 5
    table = summarise_ledger("dlp-cnn/table-6", "book", "facsynth")
    last = table[(table.row == "mSVM DLP-CNN") & (table.role == "basic") & (table.metric == "mean diagonal")].iloc[0]
    assert shown[-1] == tuple(f"{100 * last[key]:.0f}" for key in ("value", "low", "high"))
    assert f"The ledger holds {len(list_ledgers(profile='book'))} results" in page
