"""The rules of a file of published numbers, whosever they are."""

import numpy as np
import pytest

from fer_utils.errors import DataError
from fer_utils.experiments.published import load_published, parse_published

MINIATURE = """
paper: toy
reference: somebody
items:
  table-1:
    title: A table
    where: Table I
    unit: "%"
    columns:
      - {name: A, metric: accuracy, role: basic}
      - {name: B, metric: mean diagonal, role: lab}
    rows:
      good: [90.5, 80]
      poor: [50, null]
    damaged:
      - one cell is lost
claims:
  - id: better
    text: good is better
    where: Table I
    item: table-1
    metric: accuracy
    role: basic
    relation: order
    rows: [good, poor]
"""


def test_the_miniature_is_fine():
    toy = parse_published(MINIATURE, "toy.yaml")
    assert toy.item("toy/table-1").rows == {"good": (90.5, 80), "poor": (50, None)}
    assert toy.difference(toy.claim("better").comparisons[0]) == 40.5


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("good: [90.5, 80]", "good: [90.5, 80, 1]", r"toy\.yaml: items\.table-1\.rows\.good: 3 cells; expected a list of 2"),
        ("good: [90.5, 80]", "good: 90", r"rows\.good: int cells"),
        ("good: [90.5, 80]", "good: [90.5, high]", r"rows\.good: 'high'; expected a number or null"),
        ("good: [90.5, 80]", "good: [90.5, true]", r"rows\.good: True"),
        ("poor: [50, null]", "good: [50, null]", r"toy\.yaml, line 14: the key 'good' comes twice"),
        ("title: A table", "titel: A table", r"items\.table-1 has no key 'title'"),
        ("where: Table I\n    unit", "where: Table I\n    more: 1\n    unit", r"items\.table-1 has an unknown key 'more'"),
        ("metric: accuracy, role: basic}", "role: basic}", r"items\.table-1\.columns\[0\] has no key 'metric'"),
        ("- one cell is lost", "- cell: lost", r"items\.table-1\.damaged is not a list of sentences"),
        ("relation: order", "relation: better", r"claims\.better\.relation: 'better'; expected one of order, best"),
        ("rows: [good, poor]", "rows: [good]", r"claims\.better\.rows compares nothing"),
        ("rows: [good, poor]", "rows: [good, bad]", r"claims\.better: table-1 has no row 'bad'; expected one of good, poor"),
        ("item: table-1", "item: table-2", r"claims\.better: no item 'table-2'; expected one of table-1"),
        ("    metric: accuracy\n", "", r"claims\.better: the cell 'good' has no metric"),
        ("rows: [good, poor]", "rows: [good, {row: poor, roles: lab}]", r"has an unknown key 'roles'"),
        ("order\n    rows: [good, poor]", "greater\n    pairs: [[good]]", r"claims\.better\.pairs: \['good'\]; expected lists of 2 cells"),
        ("relation: order", "relation: above", r"claims\.better has no key 'bound'"),
        ("claims:", "claims: {}\nmore:", r"the file has an unknown key 'more'"),
        ("paper: toy", "paper: [toy", r"toy\.yaml, line \d+: .*; expected YAML"),
        ("items:\n", "items: []\nrest:\n", r"the file has an unknown key 'rest'"),
        ("good: [90.5, 80]", "good: [90.5, .nan]", r"rows\.good: nan; expected a number or null"),
        ("good: [90.5, 80]", "good: [.inf, 80]", r"rows\.good: inf"),
        ("good: [90.5, 80]", f"good: [1{'0' * 400}, 80]", r"rows\.good: 10+ \.\.\. 0+; expected a number"),
        ("good: [90.5, 80]", f"good: [1{'0' * 5000}, 80]", r"toy\.yaml: a value cannot be read"),
        ("good: [90.5, 80]", "1: [90.5, 80]\n      \"1\": [1, 2]", r"items\.table-1: the row '1' comes twice"),
        ("paper: toy", "paper: 3", r"toy\.yaml: paper is int; expected text"),
        ("reference: somebody", "reference: 2019-13-45", r"toy\.yaml: a value cannot be read"),
        ("reference: somebody", "reference: 2019-12-24", r"toy\.yaml: reference is date; expected text"),
        ("title: A table", "title: [A table]", r"items\.table-1\.title is a list; expected text"),
        ('unit: "%"', "unit: null", r"items\.table-1\.unit is empty; expected text"),
        ("name: A,", "name: 3,", r"items\.table-1\.columns\[0\]\.name is int; expected text"),
        ("    damaged:", "    sequences: [1]\n    damaged:", r"items\.table-1\.sequences is a list; expected a mapping"),
        ("id: better", "id: {}", r"claims\[0\]\.id is a mapping; expected text"),
        ("relation: order", "relation: [order]", r"claims\[0\]\.relation is a list; expected text"),
        ("rows: [good, poor]", "rows: good", r"claims\[0\]\.rows is text; expected a list"),
        ("rows: [good, poor]", "rows: [good, 3]", r"claims\.better: the cell 3 is int"),
        ("role: basic\n    relation", "each_role: basic\n    relation", r"claims\[0\]\.each_role is text; expected a list"),
        ("relation: order", "relation: above\n    bound: .nan", r"claims\[0\]\.bound is nan; expected a number"),
        ("relation: order", "relation: above\n    bound: true", r"claims\[0\]\.bound is bool; expected a number"),
        ("text: good is better", "text: good is better\n    by_construction: true", r"claims\[0\]\.by_construction is bool; expected text"),
        ("text: good is better", "text: good is better\n    by_construction: ''", r"claims\.better\.by_construction is empty; expected a"),
        ("reference: somebody", "reference: &a somebody\nmore: *a", r"toy\.yaml, line 4: an alias; expected YAML"),
        ("reference: somebody", "<<: {reference: somebody}", r"toy\.yaml"),
        ("reference: somebody", f"reference: {'[' * 3000}", r"toy\.yaml, line 3: nested deeper than 20 levels; expected YAML"),
        ("reference: somebody", f"reference: {'{a: ' * 3000}", r"toy\.yaml, line 3: nested deeper than 20 levels"),
        ("reference: somebody", "reference: " + "x" * 2**20, r"toy\.yaml: has 1,\d+,\d+ characters; expected YAML of at most"),
        ("reference: somebody", "reference: !!python/object:os.system {}", r"toy\.yaml, line 3: could not determine a constructor"),
        ("reference: somebody", "? [a]\n: b", r"toy\.yaml, line 3: found unhashable key"),
        ("reference: somebody", "reference: \x00", r"toy\.yaml: "),
    ],
)
def test_a_mistake_in_the_file(old, new, message):
    assert old in MINIATURE
    with pytest.raises(DataError, match=message):
        parse_published(MINIATURE.replace(old, new, 1), "toy.yaml")


def test_a_bomb_of_aliases_is_not_built():
    """Nine lines that stand for a billion words."""
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(DataError, match=r"toy\.yaml, line 2: an alias; expected YAML"):
        parse_published("\n".join(levels), "toy.yaml")


def test_whatever_stands_in_the_file_is_read_or_refused():
    """A file that is cut, doubled or has a piece replaced gives numbers and claims, or one DataError that names it."""
    rng = np.random.default_rng(0)
    pieces = ["null", "[]", "{}", "-1", ".nan", "1e999", "true", "2019-02-30", "!!set {a}", "- ", ": ", "\n", "'", "*a", "1:2:3", "é"]
    refused = 0
    for _ in range(400):
        text = MINIATURE
        for _ in range(rng.integers(1, 3)):
            start = int(rng.integers(len(text)))
            end = min(len(text), start + int(rng.integers(12)))
            text = text[:start] + str(rng.choice(pieces)) + text[end:]
        try:
            found = parse_published(text, "toy.yaml")
        except DataError as error:
            assert str(error).startswith("toy.yaml")
            refused += 1
        else:
            assert all(isinstance(found.difference(c), float | int | None) for claim in found.claims for c in claim.comparisons)
    assert 200 < refused < 400


def test_a_claim_by_construction():
    text = MINIATURE.replace("text: good is better", "text: good is better\n    by_construction: it was made so")
    assert parse_published(text, "toy.yaml").claim("better").by_construction == "it was made so"
    assert parse_published(MINIATURE, "toy.yaml").claim("better").by_construction == ""


def test_a_claim_comes_once():
    text = MINIATURE + MINIATURE.split("claims:\n")[1]
    with pytest.raises(DataError, match=r"claims\[1\]\.id: 'better' comes twice"):
        parse_published(text, "toy.yaml")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: p.item("table-99"), r"no item 'table-99'; expected one of section-3, "),
        (lambda p: p.claim("best"), r"no claim 'best'; expected one of descriptor-order, "),
        (lambda p: load_published("nobody"), r"unknown paper 'nobody'; expected one of .*dlp-cnn"),
    ],
)
def test_unknown_names(call, message):
    with pytest.raises(ValueError, match=message):
        call(load_published("dlp-cnn"))
