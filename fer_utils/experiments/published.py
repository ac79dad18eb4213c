"""Reading the papers' numbers and claims from their YAML files, with every mistake in a file reported by its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import Any

import yaml

from ..discovery import find_folder
from ..errors import DataError

__all__ = ["Cell", "Claim", "Column", "Comparison", "Item", "Published", "load_published", "parse_published"]

RELATIONS = ("order", "best", "greater", "interaction", "above")
_ITEM_KEYS = ({"title", "where", "unit", "columns", "rows"}, {"confusion", "damaged", "sequences", "notes"})
_COLUMN_KEYS = ({"name", "metric"}, {"role", "dataset", "split"})
_CLAIM_KEYS = (
    {"id", "text", "where", "item", "relation"},
    {"metric", "role", "row", "rows", "pairs", "each_role", "bound", "not_attempted", "by_construction"},
)
#: No file of ours is nearly as long or as deep; what is, is a mistake or an attack.
_MAX_LENGTH, _MAX_DEPTH = 2**20, 20


@dataclass(frozen=True)
class Cell:
    """One number: which row, measured how, on which test set.

    Attributes
    ----------
    item : str
        ``<paper>/<table or figure>``.
    row : str
    role : str
        Of the test set: ``basic``, ``compound``, ``lab``, ``lab-small``; empty where none is needed.
    metric : str
        As :func:`fer_utils.metrics.compute_metric`, or any other name that results use.
    """

    item: str
    row: str
    role: str
    metric: str

    def __str__(self) -> str:
        return f"{self.row}, {self.metric}" + (f", {self.role}" if self.role else "")


@dataclass(frozen=True)
class Column:
    """One column of a published table; see :class:`Cell` for ``metric`` and ``role``.

    Attributes
    ----------
    name : str
        As printed.
    metric, role : str
    dataset, split : str
        What the paper measured on.
    """

    name: str
    metric: str
    role: str = ""
    dataset: str = ""
    split: str = ""


@dataclass(frozen=True)
class Item:
    """One published table, figure, algorithm or section with numbers.

    Attributes
    ----------
    id : str
        ``<paper>/<item>``.
    title, where : str
        What it is, in our words, and where it stands.
    unit : str
        ``"%"``, ``"ms"``, ``""`` or ``"text"`` (cells are words).
    columns : tuple of Column
    rows : dict of str to tuple
        One entry a column; None for a dash or a cell that our copy lost.
    confusion : str
        For a confusion matrix, whose: ``rows`` are then the true classes.
    damaged : tuple of str
        What our copy of the paper lost.
    sequences : dict of str to str
        Numbers of damaged rows in printed order.
    notes : tuple of str
    """

    id: str
    title: str
    where: str
    unit: str
    columns: tuple[Column, ...]
    rows: Mapping[str, tuple[Any, ...]]
    confusion: str = ""
    damaged: tuple[str, ...] = ()
    sequences: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def cells(self) -> Iterator[tuple[Cell, Column, Any]]:
        """Every cell with its column and what is printed there (None where nothing is known)."""
        for row, values in self.rows.items():
            for column, value in zip(self.columns, values, strict=True):
                if self.confusion:
                    yield Cell(self.id, self.confusion, column.role, f"{row} {column.metric}"), column, value
                else:
                    yield Cell(self.id, row, column.role, column.metric), column, value


@dataclass(frozen=True)
class Comparison:
    """A sum of weighted cells that a claim says is above ``bound``.

    Attributes
    ----------
    terms : tuple of (int, Cell)
        Weights are 1 or -1; the first term's is 1.
    bound : float
        In the unit of the item.
    """

    terms: tuple[tuple[int, Cell], ...]
    bound: float = 0.0

    def __str__(self) -> str:
        """What differs between the cells, and in parentheses what they share."""
        names, cells = ("row", "metric", "role"), [cell for _, cell in self.terms]
        shared = [name for name in names if len({getattr(cell, name) for cell in cells}) == 1 and len(cells) > 1]
        words = [", ".join(getattr(c, name) for name in names if name not in shared and getattr(c, name)) for c in cells]
        common = ", ".join(getattr(cells[0], name) for name in shared if getattr(cells[0], name))
        what = {1: "{} > {bound:g}", 2: "{} > {}", 4: "({}) - ({}) > ({}) - ({})"}[len(words)].format(*words, bound=self.bound)
        return f"{what} ({common})" if common else what


@dataclass(frozen=True)
class Claim:
    """A relation that a paper argues from its numbers.

    Attributes
    ----------
    id : str
        ``<paper>/<claim>``.
    text, where : str
    relation : str
        ``order``, ``best``, ``greater``, ``interaction`` or ``above``.
    comparisons : tuple of Comparison
        All of them must hold.
    not_attempted : str
        Why this book cannot decide it; empty where it can.
    by_construction : str
        Why it holds on FACSynth's faces because they were rendered so; empty where that is not the case.
    """

    id: str
    text: str
    where: str
    relation: str
    comparisons: tuple[Comparison, ...]
    not_attempted: str = ""
    by_construction: str = ""


@dataclass(frozen=True)
class Published:
    """One paper's numbers and claims.

    Attributes
    ----------
    paper, reference : str
    items : dict of str to Item
        By the id without the paper.
    claims : tuple of Claim
    """

    paper: str
    reference: str
    items: Mapping[str, Item]
    claims: tuple[Claim, ...]

    def item(self, name: str) -> Item:
        """The item ``table-5`` (or ``dlp-cnn/table-5``). Raises ``ValueError``, which lists the items, for an unknown one."""
        found = self.items.get(name.removeprefix(f"{self.paper}/"))
        if found is None:
            raise ValueError(f"{self.paper} has no item {name!r}; expected one of {', '.join(self.items)}")
        return found

    def claim(self, name: str) -> Claim:
        """The claim of an id, with or without the paper. Raises ``ValueError``, which lists the claims, for an unknown one."""
        for claim in self.claims:
            if name in (claim.id, claim.id.removeprefix(f"{self.paper}/")):
                return claim
        ids = ", ".join(claim.id.removeprefix(f"{self.paper}/") for claim in self.claims)
        raise ValueError(f"{self.paper} has no claim {name!r}; expected one of {ids}")

    def value(self, cell: Cell) -> float | None:
        """What the paper prints in a cell, in the item's unit; None where it prints nothing there, or our copy lost it."""
        item = self.items.get(cell.item.removeprefix(f"{self.paper}/"))
        found = {known: value for known, _, value in item.cells()}.get(cell) if item is not None else None
        return None if found is None or isinstance(found, str) else float(found)

    def difference(self, comparison: Comparison) -> float | None:
        """A comparison in the paper's own numbers, above its bound if they agree with the claim; None if a cell is unknown."""
        values = [(weight, self.value(cell)) for weight, cell in comparison.terms]
        return None if any(value is None for _, value in values) else sum(weight * value for weight, value in values if value is not None)


@cache
def load_published(paper: str) -> Published:
    """Read a paper's numbers and claims.

    Parameters
    ----------
    paper : str
        Its short name, such as ``"dlp-cnn"``.

    Returns
    -------
    Published

    Raises
    ------
    ValueError
        For an unknown paper; the message lists the papers.
    DataError
        If the file is not what it should be; see :func:`parse_published`.
    """
    path = find_folder(paper) / "published.yaml"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError.at(path, f"cannot be read ({error})", "YAML in UTF-8") from error
    found = parse_published(text, str(path))
    if found.paper != paper:
        raise DataError.at(path, f"holds the numbers of {found.paper!r}", f"those of {paper!r}, as its folder is named")
    return found


# -- parsing --------------------------------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """YAML in which a key that comes twice is a mistake; without aliases, a few of which can stand for a file of any size."""

    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        mark = self.peek_event().start_mark
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "an alias", mark)
        if self._depth == _MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, f"nested deeper than {_MAX_DEPTH} levels", mark)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for i, key in enumerate(keys):
            if key in keys[:i]:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} comes twice", node.value[i][0].start_mark)
        return super().construct_mapping(node, deep)


def parse_published(text: str, file: str) -> Published:
    """Read YAML text.

    Parameters
    ----------
    text : str
    file : str
        What to call it in errors.

    Returns
    -------
    Published

    Raises
    ------
    DataError
        Naming file and key: for broken, huge or deep YAML, an alias, a key that comes twice, is missing or unknown, a value of another kind
        than its key has, a row with more or fewer numbers than columns, or a claim whose relation, item or row does not exist.
    """
    if len(text) > _MAX_LENGTH:
        raise DataError.at(file, f"has {len(text):,} characters", f"YAML of at most {_MAX_LENGTH:,}")
    try:
        whole = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = f"{getattr(error, 'problem', None) or error}"
        raise DataError.at(file, problem, "YAML", line=mark.line + 1 if mark is not None else None) from error
    except (ValueError, OverflowError, RecursionError) as error:  # such as a date of a 13th month
        raise DataError.at(file, f"a value cannot be read ({error})", "YAML") from error
    _check_keys(whole, ({"paper", "reference", "items", "claims"}, set()), file, "the file")
    _check_kinds(whole, {"paper": str, "reference": str, "items": dict, "claims": list}, file, "the file")
    paper = whole["paper"]
    items = {str(name): _parse_item(f"{paper}/{name}", spec, file, f"items.{name}") for name, spec in whole["items"].items()}
    claims: list[Claim] = []
    for i, spec in enumerate(whole["claims"]):
        claim = _parse_claim(paper, spec, items, file, f"claims[{i}]")
        if claim.id in {other.id for other in claims}:
            raise DataError.at(file, f"claims[{i}].id: {spec['id']!r} comes twice", "ids that differ")
        claims.append(claim)
    return Published(paper, whole["reference"], items, tuple(claims))


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), type(value).__name__)


_KINDS: Mapping[type, str] = {type(None): "empty", dict: "a mapping", list: "a list", str: "text", float: "a number"}


def _check_kinds(spec: Mapping[str, Any], kinds: Mapping[str, type], file: str, where: str) -> None:
    """Make sure that the values of those keys that are there are of their kind; a float may be an int, and is finite."""
    for key, kind in kinds.items():
        if key not in spec or (_is_number(spec[key]) if kind is float else isinstance(spec[key], kind)):
            continue
        found = repr(spec[key]) if isinstance(spec[key], float) else _kind(spec[key])
        raise DataError.at(file, f"{where}.{key} is {found}" if where != "the file" else f"{key} is {found}", _KINDS[kind])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _check_keys(spec: Any, keys: tuple[set[str], set[str]], file: str, where: str) -> None:
    required, optional = keys
    if not isinstance(spec, dict):
        raise DataError.at(file, f"{where} is {_kind(spec)}", f"a mapping with the keys {', '.join(sorted(required))}")
    for key in sorted(required - spec.keys()):
        raise DataError.at(file, f"{where} has no key {key!r}", f"the keys {', '.join(sorted(required))}")
    for key in spec:
        if key not in required | optional:
            raise DataError.at(file, f"{where} has an unknown key {key!r}", f"some of {', '.join(sorted(required | optional))}")


def _parse_item(name: str, spec: Any, file: str, where: str) -> Item:
    _check_keys(spec, _ITEM_KEYS, file, where)
    kinds = {**dict.fromkeys(("title", "where", "unit", "confusion"), str), "columns": list, "rows": dict, "sequences": dict}
    _check_kinds(spec, kinds, file, where)
    for i, column in enumerate(spec["columns"]):
        _check_keys(column, _COLUMN_KEYS, file, f"{where}.columns[{i}]")
        _check_kinds(column, dict.fromkeys(set().union(*_COLUMN_KEYS), str), file, f"{where}.columns[{i}]")
    columns = tuple(Column(**column) for column in spec["columns"])
    rows = {}
    for row, values in spec["rows"].items():
        place = f"{where}.rows.{row}"
        if not isinstance(values, list) or len(values) != len(columns):
            count = len(values) if isinstance(values, list) else _kind(values)
            raise DataError.at(file, f"{place}: {count} cells", f"a list of {len(columns)}, one a column")
        for value in values:
            if value is not None and not (isinstance(value, str) if spec["unit"] == "text" else _is_number(value)):
                raise DataError.at(file, f"{place}: {value!r}", "text or null" if spec["unit"] == "text" else "a number or null")
        if str(row) in rows:
            raise DataError.at(file, f"{where}: the row {str(row)!r} comes twice", "rows that differ")
        rows[str(row)] = tuple(values)
    for key in ("damaged", "notes"):
        if not isinstance(spec.get(key, []), list) or not all(isinstance(line, str) for line in spec.get(key, [])):
            raise DataError.at(file, f"{where}.{key} is not a list of sentences", "a list of text; a sentence with a colon needs quotes")
    sequences = {str(row): str(values) for row, values in spec.get("sequences", {}).items()}
    return Item(name, spec["title"], spec["where"], spec["unit"], columns, rows, spec.get("confusion", ""), tuple(spec.get("damaged", ())),
                sequences, tuple(spec.get("notes", ())))


def _parse_claim(paper: str, spec: Any, items: Mapping[str, Item], file: str, where: str) -> Claim:
    _check_keys(spec, _CLAIM_KEYS, file, where)
    kinds = {**dict.fromkeys(_CLAIM_KEYS[0] | _CLAIM_KEYS[1], str), "rows": list, "pairs": list, "each_role": list, "bound": float}
    _check_kinds(spec, kinds, file, where)
    where, relation = f"claims.{spec['id']}", spec["relation"]
    if relation not in RELATIONS:
        raise DataError.at(file, f"{where}.relation: {relation!r}", f"one of {', '.join(RELATIONS)}")
    for key in ("not_attempted", "by_construction"):
        if spec.get(key) == "":
            raise DataError.at(file, f"{where}.{key} is empty", "a reason")
    if relation == "above" and "bound" not in spec:
        raise DataError.at(file, f"{where} has no key 'bound'", "the value that 'above' is above")
    groups: list[list[Any]]
    if relation in ("greater", "interaction"):
        size = 2 if relation == "greater" else 4
        groups = spec.get("pairs") or []
        for pair in groups:
            if not isinstance(pair, list) or len(pair) != size:
                raise DataError.at(file, f"{where}.pairs: {pair!r}", f"lists of {size} cells")
    else:
        rows = spec.get("rows") or []
        if relation == "above":
            groups = [[row] for row in rows]
        elif relation == "order":
            groups = [list(pair) for pair in pairwise(rows)]
        else:
            groups = [[rows[0], row] for row in rows[1:]]
    if not groups:
        key = "pairs" if relation in ("greater", "interaction") else "rows"
        raise DataError.at(file, f"{where}.{key} compares nothing", f"cells for the relation {relation!r}")
    weights = (1, -1, -1, 1)
    comparisons = []
    for role in spec.get("each_role", [spec.get("role")]):
        defaults = {**spec, "role": role}
        for group in groups:
            cells = [_parse_cell(paper, entry, defaults, items, file, where) for entry in group]
            comparisons.append(Comparison(tuple(zip(weights, cells, strict=False)), float(spec.get("bound", 0))))
    return Claim(f"{paper}/{spec['id']}", spec["text"], spec["where"], relation, tuple(comparisons), spec.get("not_attempted", ""),
                 spec.get("by_construction", ""))


def _parse_cell(paper: str, entry: Any, defaults: Mapping[str, Any], items: Mapping[str, Item], file: str, where: str) -> Cell:
    own: Mapping[str, Any] = {"row": entry} if isinstance(entry, str) else entry
    _check_keys(own, (set(), {"row", "role", "metric", "item"}), file, f"{where}: the cell {entry!r}")
    found = {}
    for key in ("item", "row", "role", "metric"):
        found[key] = own.get(key, defaults.get(key))
        if not isinstance(found[key], str):
            raise DataError.at(file, f"{where}: the cell {entry!r} has no {key}", f"{key}, in the cell or for the whole claim")
    item = items.get(found["item"])
    if item is None:
        raise DataError.at(file, f"{where}: no item {found['item']!r}", f"one of {', '.join(items)}")
    if found["row"] not in _row_names(item):
        raise DataError.at(file, f"{where}: {found['item']} has no row {found['row']!r}", f"one of {', '.join(_row_names(item))}")
    return Cell(f"{paper}/{found['item']}", found["row"], found["role"], found["metric"])


def _row_names(item: Item) -> Sequence[str]:
    return [item.confusion] if item.confusion else list(item.rows)
