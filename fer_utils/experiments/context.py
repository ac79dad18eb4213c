"""What a run is given: its faces, a folder of its own, and networks and arrays, which it leaves for runs of other experiments to read."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..datasets.base import FaceDataset
from ..errors import DataError
from .contents import describe_contents
from .faces import find_more_options, fingerprint_faces, load_role
from .ledger import find_checkpoint
from .recipe import Profile, Recipe

if TYPE_CHECKING:
    from ..models import FaceModel

__all__ = ["RunContext"]


@dataclass(frozen=True, eq=False)
class RunContext:
    """What a run's function is given, before its own arguments.

    Attributes
    ----------
    id : str
        The experiment.
    profile : Profile
    dataset : str
    seed : int or None
        None for a run in which nothing is drawn.
    workdir : Path
        A folder of this run alone, for checkpoints: whoever runs it again after a kill finds what was written. Removed once the result
        is kept.
    root : str, optional
        Where the dataset's copy lies.
    data : str, optional
        The folder that holds ``results`` and ``checkpoints``.
    loaded : list of dict
        The faces that were loaded, with checksums.
    read : list of dict
        The files of other experiments that were read: ``id``, ``file``, ``sha256``.
    files : dict of str to bytes
        What the run leaves, name to content; written to ``data/checkpoints/<profile>/<dataset>/<paper>/<item>`` with its result.
    """

    id: str
    profile: Profile
    dataset: str
    seed: int | None
    workdir: Path
    root: str | None = None
    data: str | None = None
    loaded: list[dict[str, Any]] = field(default_factory=list)
    read: list[dict[str, str]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)

    def load_faces(self, role: str = "basic", **options: Any) -> FaceDataset:
        """Load faces by their role, as :func:`~fer_utils.experiments.faces.load_role`; the result is tied to them by a checksum.

        If the folder of this run holds work on other faces, it is emptied.

        Parameters
        ----------
        role : str
            As :func:`~fer_utils.experiments.faces.load_role`.
        **options
            For the loader. Of FACSynth's wild faces also the further test faces are loaded, unless ``more=False`` is given: small
            differences need many.

        Raises
        ------
        ValueError, DataError
            As :func:`~fer_utils.experiments.faces.load_role`.
        """
        options = {**find_more_options(self.dataset, role), **options}
        faces = load_role(self.dataset, role, self.root, **options)
        found = {
            "role": role, "options": options, **fingerprint_faces(self.dataset, faces, role, options), **describe_contents(faces),
        }
        text = json.dumps(found, sort_keys=True)
        note = self.workdir / f"faces-{role}-{hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:8]}.json"
        if note.is_file() and note.read_text() != text:
            shutil.rmtree(self.workdir)
        self.workdir.mkdir(parents=True, exist_ok=True)
        note.write_text(text)
        if found not in self.loaded:
            self.loaded.append(found)
        return faces

    # -- what a run leaves, and what it reads of another experiment, at this profile, on this dataset and of this seed --------------

    def name_file(self, name: str, ending: str) -> str:
        """How a file of this seed is called, such as ``center-loss-0.npz`` for ``"center loss"``.

        Parameters
        ----------
        name : str
            What it holds, such as a method.
        ending : str
            Without the dot.
        """
        return f"{name.replace(' ', '-')}-{self.seed or 0}.{ending}"

    def save_file(self, file: str, content: bytes) -> None:
        """Leave a small file.

        Parameters
        ----------
        file : str
            Its name, without a folder.
        content : bytes
            Below 5 MB.

        Raises
        ------
        ValueError
            For a name with a folder, or one that this run left before.
        """
        if not file or Path(file).name != file:
            raise ValueError(f"a file must have a plain name, got {file!r}")
        if file in self.files:
            raise ValueError(f"the run left {file!r} before; expected names that differ")
        self.files[file] = content

    def find_file(self, id: str, file: str) -> Path:
        """A file that a run of another experiment left, to which the result is then tied.

        Parameters
        ----------
        id : str
            The experiment: ``"dlp-cnn/table-6"``.
        file : str
            As the run named it, with its ending.

        Raises
        ------
        DataError
            If it is not there, or not what the run wrote.
        """
        path = find_checkpoint(id, file, self.profile, self.dataset, Path(self.data) if self.data else None)
        found = {"id": id, "file": file, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        if found not in self.read:
            self.read.append(found)
        return path

    def save_network(self, method: str, model: FaceModel, recipe: Recipe) -> None:
        """Leave a trained network in half precision, with its method, seed, dataset and recipe.

        Parameters
        ----------
        method : str
            By which :meth:`load_network` finds it.
        model : FaceModel
        recipe : Recipe
        """
        from ..training import save_checkpoint  # torch takes seconds to load, and most who import this need no network

        path = self.workdir / "network.safetensors"
        provenance = {"method": method, "seed": self.seed, "dataset": self.dataset, "recipe": recipe.as_arguments()}
        save_checkpoint(model, path, provenance=provenance)
        self.save_file(self.name_file(method, "safetensors"), path.read_bytes())

    def load_network(self, id: str, method: str) -> FaceModel:
        """Load the network that a run of another experiment left by :meth:`save_network`, in evaluation mode.

        Parameters
        ----------
        id : str
            The experiment: ``"dlp-cnn/table-6"``.
        method : str
            As the network was saved.

        Raises
        ------
        DataError
            If it is missing or damaged.
        """
        from ..training import load_checkpoint

        return load_checkpoint(self.find_file(id, self.name_file(method, "safetensors")))[0]

    def save_arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Leave named arrays, compressed, as they are: what is stored in half precision or as bits is converted before.

        Parameters
        ----------
        name : str
            See :meth:`name_file`.
        arrays : dict of str to array

        Raises
        ------
        ValueError
            If one holds Python objects.
        """
        for key, values in arrays.items():
            if values.dtype.hasobject:  # asked here, as NumPy takes allow_pickle=False for an array of that name before 2.1
                raise ValueError(f"the array {key!r} holds objects; expected numbers or text")
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        self.save_file(self.name_file(name, "npz"), buffer.getvalue())

    def load_arrays(self, id: str, name: str, needed: Sequence[str] = ()) -> dict[str, np.ndarray]:
        """Load the arrays that a run of another experiment left by :meth:`save_arrays`.

        Parameters
        ----------
        id, name : str
        needed : sequence of str
            Arrays without which the file is of no use.

        Raises
        ------
        DataError
            If the file is missing or damaged, or lacks an array that is needed.
        """
        path = self.find_file(id, self.name_file(name, "npz"))
        expected = f"the arrays {', '.join(needed)}" if needed else "an .npz file of arrays"
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {key: file[key] for key in file.files}
        except Exception as error:  # NumPy passes on whatever zip, zlib and its own parser raise
            raise DataError.at(path, f"cannot be read ({error})", expected) from error
        missing = [key for key in needed if key not in arrays]
        if missing:
            raise DataError.at(path, f"has no array {missing[0]!r}", expected)
        return arrays
