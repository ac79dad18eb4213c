"""What a checkpoint belongs to: a description of objects that changes with everything that a training depends on."""

from __future__ import annotations

import functools
import hashlib
import types
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

import numpy as np
import torch
from torch import nn

__all__ = ["checksum_arrays", "describe"]

#: What every module of torch holds besides its own settings.
_TORCH = set(vars(nn.Module()))
_CHUNK = 1024


def checksum_arrays(*arrays: Any) -> str:
    """CRC-32 of types, shapes and values of arrays and tensors, a part at a time: 8 hex digits."""
    found = 0
    for array in arrays:
        if isinstance(array, torch.Tensor):
            array = array.detach().cpu().numpy()
        found = zlib.crc32(f"{array.dtype} {array.shape}".encode(), found)
        for start in range(0, len(array) if array.ndim else 1, _CHUNK):
            found = zlib.crc32(np.ascontiguousarray(array[start : start + _CHUNK] if array.ndim else array), found)
    return f"{found:08x}"


def describe(value: Any) -> Any:
    """Describe a value, function, module or object by its settings, in what JSON can hold.

    Two functions of one name differ if their code or what they close over does; two modules if any public attribute does, down to their
    submodules. Parameters, buffers and private attributes of a module, and what an object gives as its ``state_dict``, are state, and not
    described.
    """
    return _describe(value, ())


def _describe(value: Any, seen: tuple[int, ...]) -> Any:
    if value is None or (isinstance(value, bool | int | float | str) and not isinstance(value, Enum)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if id(value) in seen:
        return "itself"
    seen = (*seen, id(value))
    name = f"{type(value).__module__}.{type(value).__qualname__}"
    if isinstance(value, np.ndarray | torch.Tensor):
        return f"{name} {list(value.shape)} {checksum_arrays(value)}"
    if isinstance(value, Mapping):
        return {str(key): _describe(item, seen) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if isinstance(value, list | tuple | range):
        return [_describe(item, seen) for item in value]
    if isinstance(value, functools.partial):
        return ["partial", *(_describe(part, seen) for part in (value.func, value.args, value.keywords))]
    if isinstance(value, types.MethodType):
        return [_describe(value.__self__, seen), value.__func__.__qualname__, _hash_code(value.__func__.__code__)]
    if isinstance(value, types.FunctionType):
        return _describe_function(value, seen)
    if isinstance(value, type | types.BuiltinFunctionType | types.ModuleType):
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', value.__name__)}"
    if isinstance(value, nn.Module):
        settings = {key: _describe(item, seen) for key, item in vars(value).items() if key not in _TORCH and key[0] != "_"}
        return {"class": name, **settings, **{key: _describe(child, seen) for key, child in value.named_children()}}
    if is_dataclass(value):
        return {"class": name, **{item.name: _describe(getattr(value, item.name), seen) for item in fields(value)}}
    state = set(value.state_dict()) if hasattr(value, "state_dict") else set()
    settings = {key: _describe(item, seen) for key, item in getattr(value, "__dict__", {}).items() if key not in state}
    return {"class": name, **settings} if settings else name


def _describe_function(function: types.FunctionType, seen: tuple[int, ...]) -> Any:
    held = [_describe(cell.cell_contents, seen) for cell in _filled(function.__closure__ or ())]
    defaults = _describe([function.__defaults__, function.__kwdefaults__], seen)
    return [f"{function.__module__}.{function.__qualname__}", _hash_code(function.__code__), defaults, held]


def _filled(cells: Iterable[Any]) -> list[Any]:
    """Closure cells that hold something: one that a function will fill later raises when it is read."""
    found = []
    for cell in cells:
        try:
            cell.cell_contents  # noqa: B018
        except ValueError:
            continue
        found.append(cell)
    return found


def _sorted(constant: Any) -> Any:
    """A constant whose text is the same in every process: sets of text are in an order of their own in each."""
    return sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant


def _hash_code(code: types.CodeType) -> str:
    digest = hashlib.sha256(code.co_code)
    for constant in code.co_consts:
        inner = _hash_code(constant) if isinstance(constant, types.CodeType) else repr(_sorted(constant))
        digest.update(inner.encode())
    digest.update(" ".join((*code.co_names, *code.co_varnames, *code.co_freevars)).encode())
    return digest.hexdigest()[:12]
