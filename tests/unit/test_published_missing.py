"""What our copies of the papers lost: the list on *How to run* is that of the files, and the files take what a reader fills in."""

from pathlib import Path

import pytest
import yaml

from fer_utils.discovery import find_folder, list_papers
from fer_utils.experiments.published import Cell, load_published, parse_published

PAGE = Path(__file__).resolve().parents[2] / "book" / "how_to_run.md"
HEAD = "| paper | where | key in the file | what is missing |\n| --- | --- | --- | --- |\n"
DAMAGED = [(paper, name) for paper in list_papers() for name, item in load_published(paper).items.items() if item.damaged]


def list_missing() -> str:
    """The table of the page, one line for each thing that is lost."""
    lines = []
    for paper, name in DAMAGED:
        item = load_published(paper).item(name)
        lines += [f"| {paper} | {item.where} | `{name}` | {' '.join(what.split())} |" for what in item.damaged]
    return HEAD + "\n".join(lines) + "\n"


def test_the_page_lists_what_the_files_lack():
    expected = list_missing()
    assert expected in PAGE.read_text(encoding="utf-8"), f"book/how_to_run.md should hold:\n{expected}"


@pytest.mark.parametrize("paper", sorted({paper for paper, _ in DAMAGED}))
def test_an_empty_cell_can_be_filled_in(paper):
    whole = yaml.safe_load((find_folder(paper) / "published.yaml").read_text(encoding="utf-8"))
    filled = []
    for name in (name for one, name in DAMAGED if one == paper):
        spec = whole["items"][name]
        if spec["unit"] == "text" or "confusion" in spec:
            continue
        for row, values in spec["rows"].items():
            for i, column in enumerate(spec["columns"]):
                if values[i] is None:
                    values[i] = 12.5
                    filled.append(Cell(f"{paper}/{name}", row, column.get("role", ""), column["metric"]))
    read = parse_published(yaml.safe_dump(whole, sort_keys=False, allow_unicode=True), "filled.yaml")
    assert [load_published(paper).value(cell) for cell in filled] == [None] * len(filled)
    assert [read.value(cell) for cell in filled] == [12.5] * len(filled)


def test_a_lost_table_can_be_written_down_and_then_decides_a_difference():
    whole = yaml.safe_load((find_folder("dlp-cnn") / "published.yaml").read_text(encoding="utf-8"))
    whole["items"]["table-4"] |= {"columns": [{"name": "weights", "metric": "weights"}], "rows": {"first convolution": [640]}}
    whole["items"]["figure-8"]["rows"] |= {"lambda 0": [80.0], "lambda 0.003": [82.0]}
    read = parse_published(yaml.safe_dump(whole, sort_keys=False), "filled.yaml")
    assert read.value(Cell("dlp-cnn/table-4", "first convolution", "", "weights")) == 640
    helps = "lambda-helps"
    assert load_published("dlp-cnn").difference(load_published("dlp-cnn").claim(helps).comparisons[0]) is None
    assert read.difference(read.claim(helps).comparisons[0]) == pytest.approx(2.0)
