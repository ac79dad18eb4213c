"""Drop the cache of executed chapters when what they stand on has changed.

jupyter-cache looks at the code cells only. The key here covers the helper package, the data that ships and the pinned versions.
Usage: ``python .ci/cache_key.py [BUILD_DIR]`` (default ``_build``).
"""

import hashlib
import platform
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("fer_utils", "data/facsynth", "data/results", "data/checkpoints", "constraints.txt")
SKIP = {"__pycache__", ".ipynb_checkpoints"}


def files_of(root: Path) -> list[Path]:
    """Every file that the chapters stand on, in a fixed order."""
    found: list[Path] = []
    for part in PARTS:
        path = root / part
        found += [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sorted(p for p in found if not SKIP & set(p.relative_to(root).parts))


def cache_key(root: Path = ROOT) -> str:
    """SHA-256 over names and contents of those files, and over the Python version."""
    digest = hashlib.sha256(platform.python_version().encode())
    for path in files_of(root):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(root).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()


def refresh(build: Path, root: Path = ROOT) -> bool:
    """Drop the cache under `build` unless it was filled under the same key; say whether the key was a new one."""
    stamp, key = build / ".cache_key", cache_key(root)
    if stamp.is_file() and stamp.read_text(encoding="utf-8").strip() == key:
        return False
    shutil.rmtree(build / ".jupyter_cache", ignore_errors=True)
    build.mkdir(parents=True, exist_ok=True)
    stamp.write_text(key + "\n", encoding="utf-8")
    return True


if __name__ == "__main__":
    if refresh(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "_build"):
        print("Package, data or versions are new: every chapter will be executed.")
