"""The one error: a printable line of limited length that names the file."""

from __future__ import annotations

import pickle

import pytest

from fer_utils.errors import DataError, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain caf\u00e9 \U0001f600", "plain caf\u00e9 \U0001f600"), ("\x1b[2J", r"\x1b[2J"), ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x9b31m\x7f", r"\x9b31m\x7f"), ("\u202egpj.a", r"\u202egpj.a"), ("\udcff.jpg", r"\udcff.jpg"), ("\u2028", r"\u2028"),
        (b"x", "b'x'"),
    ],
)
def test_printable(text: object, shown: str) -> None:
    assert printable(text) == shown and printable(text).isprintable()


def test_long_texts_keep_their_ends() -> None:
    short = printable("/start" + "x" * 10**7 + "end.csv", 100)
    assert len(short) == 100 and short.startswith("/start") and short.endswith("end.csv") and " ... " in short
    assert len(printable("\x00" * 10**6, 100)) == 100 and printable("x" * 100, 100) == "x" * 100


def test_an_error_is_one_line_that_names_the_file() -> None:
    name = "/data/" + "deep/" * 500 + "labels.csv"
    error = DataError.at(name, "x" * 10**6 + "\x1b[2J", "y" * 10**6, line=3)
    text = str(error)
    assert "labels.csv, line 3: xxx" in text and text.isprintable() and len(text) < 1500 and "; expected yyy" in text
    assert str(pickle.loads(pickle.dumps(error))) == text and len(str(DataError("a\nb" * 10**5))) == 1500
    assert str(DataError.at("f.txt", "is bad", "better", line=1)) == "f.txt, line 1: is bad; expected better"
