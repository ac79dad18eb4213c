import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest

from fer_utils.errors import DataError
from fer_utils.files import cache_root, data_root, private_folder, replace_whole, write_rows


@pytest.mark.parametrize("sync", [False, True])
def test_a_file_is_replaced_as_a_whole(tmp_path, sync):
    path = tmp_path / "a.json"
    path.write_text("old")
    with replace_whole(path, sync=sync) as partial:
        partial.write_text("new")
        assert path.read_text() == "old" and partial.parent == tmp_path
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["a.json"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="stop"), replace_whole(path) as partial:
        partial.write_text("half")
        raise RuntimeError("stop")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.json"]


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path):
    path = tmp_path / "a[1].json"
    left = tmp_path / "a[1].json.0123456789ab.part"
    others = {"a[1].json.part", "b.json.0123456789ab.part", "a1.json.0123456789ab.part"}
    for name in {left.name, *others}:
        (tmp_path / name).write_text("half")
    with replace_whole(path) as slow:  # a writer that is at work is left alone, and so are files of another name
        slow.write_text("slow")
        with replace_whole(path) as fast:
            fast.write_text("fast")
        assert path.read_text() == "fast" and slow.read_text() == "slow" and not left.exists()
    assert path.read_text() == "slow" and set(os.listdir(tmp_path)) == {path.name, *others}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), OSError("600 requested and 12 written")])
def test_a_full_disk_is_named(tmp_path, error):
    said = r"(No space left on device|600 requested and 12 written).*: '.*a\.json'"
    with pytest.raises(OSError, match=said), replace_whole(tmp_path / "a.json"):
        raise error
    assert os.listdir(tmp_path) == []


def test_homes_that_are_not_there(monkeypatch):
    for variable, find in (("FER_DATA", data_root), ("FER_CACHE", cache_root)):
        monkeypatch.setenv(variable, "~nosuch/place")
        with pytest.raises(DataError, match=rf"{variable}=~nosuch/place: .*home.*expected the path of a folder"):
            find()
    monkeypatch.delenv("FER_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    assert cache_root() is None


def test_no_folder_is_made(tmp_path):
    with pytest.raises(FileNotFoundError), replace_whole(tmp_path / "none/a.json") as partial:
        partial.write_text("x")
    assert os.listdir(tmp_path) == []


def test_rows_are_written_as_one_array(tmp_path):
    whole = np.random.default_rng(0).random((10, 3, 2)).astype(np.float32)
    write_rows(tmp_path / "rows.npy", iter(np.split(whole, [4, 5])), 10)
    for mode in (None, "r"):
        found = np.load(tmp_path / "rows.npy", mmap_mode=mode)
        assert found.dtype == np.float32 and np.array_equal(found, whole)


def test_a_private_folder_is_nobody_elses(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    path = private_folder("mine")
    assert path == tmp_path / "mine" == private_folder("mine") and path.stat().st_mode & 0o777 == 0o700
    path.chmod(0o755)
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "file").touch()
    for name in ("mine", "link", "file"):
        with pytest.raises(DataError, match=rf"{name}: belongs to somebody else, or others may enter it"):
            private_folder(name)


def test_threads_that_write_one_file_each_publish_what_they_wrote(tmp_path):
    path, barrier = tmp_path / "a.txt", Barrier(8)

    def write(letter):
        barrier.wait()
        with replace_whole(path) as partial:
            for _ in range(200):
                with partial.open("a") as file:
                    file.write(letter)
        return path.read_text()

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(write, "abcdefgh"))
    assert all(len(text) == 200 and len(set(text)) == 1 for text in [*found, path.read_text()])
    assert list(tmp_path.iterdir()) == [path]
