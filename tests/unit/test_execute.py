"""Chapters are executed side by side before the build, which finds them in the cache; one that fails is left to it."""

from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
jupyter_cache = pytest.importorskip("jupyter_cache")
pytest.importorskip("myst_nb")


def write(folder: Path, name: str, *cells: str, kernel: str = "python3") -> Path:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    notebook.metadata["kernelspec"] = {"name": kernel, "display_name": "Python 3", "language": "python"}
    path = folder / "notebooks" / f"{name}.ipynb"
    path.parent.mkdir(exist_ok=True)
    nbformat.write(notebook, path)
    return path


def test_what_ends_well_is_in_the_cache_and_executed_once(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / ".ci"))
    import execute

    (tmp_path / "_config.yml").write_text((ROOT / "_config.yml").read_text(encoding="utf-8"), encoding="utf-8")
    note = "from pathlib import Path\nwith Path('began.txt').open('a') as file:\n    file.write('{0}\\n')\nprint('{0}')"
    good = write(tmp_path, "good", note.format("good"), kernel="an editor's name")
    bad = write(tmp_path, "bad", note.format("bad"), "1 / 0")
    short, long = write(tmp_path, "short", "1"), write(tmp_path, "long", *"12345")
    assert execute.count_cells(short) == 1 and execute.count_cells(long) == 5
    for path in (short, long):
        path.unlink()

    for _ in range(2):
        execute.main(tmp_path / "_build", 2, tmp_path)
    cache = jupyter_cache.get_cache(tmp_path / "_build" / ".jupyter_cache")
    renamed = nbformat.read(good, as_version=4)
    renamed.metadata["kernelspec"]["name"] = "python3"  # as the build reads it
    _, found = cache.merge_match_into_notebook(renamed)
    assert found.cells[0].outputs[0].text == "good\n"
    with pytest.raises(KeyError):
        cache.match_cache_notebook(nbformat.read(bad, as_version=4))
    assert sorted((tmp_path / "notebooks" / "began.txt").read_text().split()) == ["bad", "bad", "good"]
