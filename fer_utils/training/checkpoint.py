"""Networks on disk: a finished one to ship, and the whole state of a training that may be killed.

Both are one safetensors file, which holds plain tensors and text and cannot run code. A file is written under a temporary name and then
renamed: one that exists is whole. A checksum of all that it holds shows whether it was damaged since.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..errors import DataError
from ..files import replace_whole
from ..models import FaceModel, build_model

__all__ = ["checksum", "load_checkpoint", "read_state", "save_checkpoint", "write_state"]

_MODEL, _STATE = "fer_utils model 1", "fer_utils training 3"


def save_checkpoint(
    model: FaceModel, path: str | os.PathLike[str], *, half: bool = True, provenance: Mapping[str, Any] | None = None
) -> None:
    """Write a network to ship: its weights, what builds it, and where it comes from.

    Parameters
    ----------
    model : FaceModel
    path : path
        Should end in ``.safetensors``.
    half : bool
        Store floats in half precision, but for a tensor that does not fit its range.
    provenance : mapping, optional
        Anything that JSON can hold: the recipe, seed, commit, dataset, metrics.

    Raises
    ------
    TypeError
        If JSON cannot hold the provenance.
    """
    tensors = {name: _halve(tensor) if half else tensor for name, tensor in model.state_dict().items()}
    content = {"model": {"name": model.name, **model.settings}, "provenance": dict(provenance or {})}
    _write(Path(path), tensors, _MODEL, content)


def _halve(tensor: torch.Tensor) -> torch.Tensor:
    half = tensor.to(torch.float16) if tensor.is_floating_point() else tensor
    return half if not tensor.is_floating_point() or bool((half.isfinite() == tensor.isfinite()).all()) else tensor


def load_checkpoint(path: str | os.PathLike[str]) -> tuple[FaceModel, dict[str, Any]]:
    """Read a network that :func:`save_checkpoint` wrote.

    Files from before checksums were stored are read without that check.

    Returns
    -------
    FaceModel
        On the CPU, in float32 and in evaluation mode.
    dict
        Its provenance.

    Raises
    ------
    DataError
        A ``ValueError``: if the file is missing, damaged or something else, or does not fit the network that it names.
    """
    path = Path(path)
    tensors, content = _read(path, _MODEL)
    try:
        model = build_model(**content["model"])
        model.load_state_dict(tensors)  # copies, and so converts to float32
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DataError.at(path, f"does not fit the network that it names ({error})", "a file of save_checkpoint") from error
    return model.eval(), content["provenance"]


def write_state(path: Path, tensors: Mapping[str, torch.Tensor], content: Mapping[str, Any]) -> None:
    """Write the state of a training: tensors, and what JSON can hold.

    Parameters
    ----------
    path : Path
    tensors : dict of str to tensor
    content : dict
        What JSON can hold.
    """
    _write(path, tensors, _STATE, content)


def read_state(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read what :func:`write_state` wrote. Raises ``DataError`` for anything else."""
    return _read(path, _STATE)


def checksum(tensors: Mapping[str, torch.Tensor], text: str = "") -> str:
    """CRC-32 of a text and of names, types, shapes and values, in whatever order of memory and on whatever device: 8 hex digits.

    Parameters
    ----------
    tensors : dict of str to tensor
    text : str
    """
    found = zlib.crc32(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        found = zlib.crc32(f"{name} {tensor.dtype} {list(tensor.shape)}".encode(), found)
        found = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy(), found)
    return f"{found:08x}"


def _write(path: Path, tensors: Mapping[str, torch.Tensor], kind: str, content: Mapping[str, Any]) -> None:
    tensors, text = _part_tensors(tensors), json.dumps(content, sort_keys=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_whole(path, sync=True) as partial:
        save_file(tensors, partial, {"kind": kind, "content": text, "checksum": checksum(tensors, text)})
        _sort_metadata(partial)


def _sort_metadata(path: Path) -> None:
    """Make equal networks equal files: safetensors writes its metadata in another order each time."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) <= length:
            file.seek(8)
            file.write(text.ljust(length))


def _part_tensors(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors on the CPU, each with memory of its own: safetensors refuses those that share it, as tied weights do."""
    found: dict[str, torch.Tensor] = {}
    taken = set()
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        found[name] = tensor.clone() if tensor.untyped_storage().data_ptr() in taken else tensor
        taken.add(tensor.untyped_storage().data_ptr())
    return found


def _read(path: Path, kind: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    expected = f"a safetensors file of kind {kind!r}"
    if not path.is_file():
        raise DataError.at(path, "is a folder" if path.is_dir() else "not found", expected)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("kind") != kind:
                raise DataError.at(path, f"of kind {metadata.get('kind')!r}", expected)
            # a copy: the file may be replaced while its memory is mapped
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        found = checksum(tensors, metadata["content"])
        # networks that were shipped before there were checksums have none
        stored = metadata.get("checksum", found) if kind == _MODEL else metadata["checksum"]
        if stored != found:
            raise DataError.at(path, f"damaged (its checksum is {found})", f"{expected} with the checksum {stored}")
        return tensors, json.loads(metadata["content"])
    except (SafetensorError, OSError, RuntimeError, KeyError, json.JSONDecodeError) as error:
        raise DataError.at(path, f"cannot be read ({error})", expected) from error
