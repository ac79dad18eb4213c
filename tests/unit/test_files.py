import os
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest

from fer_utils.errors import DataError
from fer_utils.files import private_folder, replace_whole, write_rows


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
