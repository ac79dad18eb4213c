"""Networks on disk: a finished one to ship, and the whole state of a training that may be killed.

Both are one safetensors file, which holds plain tensors and text and cannot run code. A file is written under a temporary name and then
renamed: one that exists is whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..files import replace_whole
from ..models import FaceModel, build_model

__all__ = ["load_checkpoint", "read_state", "save_checkpoint", "write_state"]

_MODEL, _STATE = "fer_utils model 1", "fer_utils training 1"


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

    Returns
    -------
    FaceModel
        On the CPU, in float32 and in evaluation mode.
    dict
        Its provenance.

    Raises
    ------
    ValueError
        If the file is missing, damaged or something else, or does not fit the network that it names.
    """
    path = Path(path)
    tensors, content = _read(path, _MODEL)
    try:
        model = build_model(**content["model"])
        model.load_state_dict(tensors)  # copies, and so converts to float32
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path}: does not fit the network that it names ({error}); expected a file of save_checkpoint") from error
    return model.eval(), content["provenance"]


def write_state(path: Path, tensors: Mapping[str, torch.Tensor], content: Mapping[str, Any]) -> None:
    """Write the state of a training: tensors, and what JSON can hold."""
    _write(path, tensors, _STATE, content)


def read_state(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read what :func:`write_state` wrote. Raises ``ValueError`` for anything else."""
    return _read(path, _STATE)


def _write(path: Path, tensors: Mapping[str, torch.Tensor], kind: str, content: Mapping[str, Any]) -> None:
    metadata = {"kind": kind, "content": json.dumps(content, sort_keys=True)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_whole(path, sync=True) as partial:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, partial, metadata)


def _read(path: Path, kind: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    expected = f"a safetensors file of kind {kind!r}"
    if not path.is_file():
        raise ValueError(f"{path}: not found; expected {expected}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("kind") != kind:
                raise ValueError(f"{path}: of kind {metadata.get('kind')!r}; expected {expected}")
            # a copy: the file may be replaced while its memory is mapped
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            return tensors, json.loads(metadata["content"])
    except (SafetensorError, OSError, RuntimeError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: cannot be read ({error}); expected {expected}") from error
