"""The rules of a file of published numbers, whosever they are."""

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
    ],
)
def test_a_mistake_in_the_file(old, new, message):
    assert old in MINIATURE
    with pytest.raises(DataError, match=message):
        parse_published(MINIATURE.replace(old, new, 1), "toy.yaml")


def test_a_claim_comes_once():
    text = MINIATURE + MINIATURE.split("claims:\n")[1]
    with pytest.raises(DataError, match=r"claims\[1\]\.id: 'better' comes twice"):
        parse_published(text, "toy.yaml")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: p.item("table-99"), r"no item 'table-99'; expected one of section-3, "),
        (lambda p: p.claim("best"), r"no claim 'best'; expected one of descriptor-order, "),
        (lambda p: load_published("nobody"), r"unknown paper 'nobody'; expected one of dlp-cnn"),
    ],
)
def test_unknown_names(call, message):
    with pytest.raises(ValueError, match=message):
        call(load_published("dlp-cnn"))
