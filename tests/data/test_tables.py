"""Tables as people save them: the same rows in every encoding and separator, and a sentence for the rest."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from pathlib import Path

import pytest

from sdsdemo.data.files.names import FilesBelow, Names
from sdsdemo.data.files.tables import cells_of, decoded, json_rows, list_in, separator_of
from sdsdemo.errors import UserError

ROWS = [("a.png", "a café, near the sea"), ("b.png", "two dogs; one cat | a “quoted” word"), ("c.png", "plain words")]
KNOWN = ("file_name", "caption")


def as_table(separator: str, end: str = "\r\n") -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=separator, lineterminator=end)
    writer.writerows([KNOWN, *ROWS])
    return stream.getvalue()


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_table_is_the_same_in_every_encoding_and_separator(codec: str, separator: str, end: str) -> None:
    table = cells_of(decoded(as_table(separator, end).encode(codec), "t.csv").text, "t.csv", KNOWN)
    assert table.columns == KNOWN
    assert [tuple(row.values()) for _, row in table.rows if not isinstance(row, str)] == ROWS


def test_a_first_line_that_names_the_separator_is_obeyed() -> None:
    table = cells_of("sep=;\r\nfile_name;caption\r\na.png;a, b\r\n", "t.csv", KNOWN)
    assert list(table.rows) == [(3, {"file_name": "a.png", "caption": "a, b"})]


def test_the_separator_is_the_one_that_gives_the_known_columns() -> None:
    assert separator_of("file_name;caption;note,more,and,more\n", KNOWN) == ";"
    assert separator_of("x;y;z\n", KNOWN) == ";"
    assert separator_of("caption\n", KNOWN) == ","


@pytest.mark.parametrize(
    ("text", "codec"),
    [
        ("кошка на столе", "cp1251"),
        ("kočka na stole, žlutá", "cp1250"),
        ("a café", "mac-roman"),
        ("the dog’s toy", "mac-roman"),
        ("a “red” dog", "mac-roman"),
        ("a dog…", "mac-roman"),
        ("a red dog—a blue one", "mac-roman"),
        ("a bus in Wrocław", "cp1250"),
        ("a bus in Łomno", "cp1250"),
        ("a knife is nóż", "cp1250"),
        ("a café", "cp850"),
        ("猫が机の上", "shift_jis"),
        ("猫在桌子上", "gb18030"),
        ("γάτα", "cp1253"),
    ],
)
def test_an_encoding_that_is_not_sure_is_refused(text: str, codec: str) -> None:
    with pytest.raises(UserError, match=r"t\.csv cannot be read as UTF-8 text: save it again as UTF-8\."):
        decoded(f"file_name,caption\n0.png,{text}\n".encode(codec), "t.csv")


@pytest.mark.parametrize(
    "text",
    [
        "Élan vital",
        "an ÉCOLE sign",
        "São Paulo, 20 °C",
        "5 m² or 3 m³",
        "¿qué?",
        "a £5 note",
        "1½ cups",
        "a dog´s toy",
        "1ª",
    ],
)
def test_western_words_and_marks_are_sure(text: str) -> None:
    found = decoded(f"file_name,caption\n0.png,{text}\n".encode("cp1252"), "t.csv")
    assert found.encoding == "Windows-1252"
    assert found.text.splitlines()[1] == f"0.png,{text}"


def test_text_that_is_cut_within_its_encoding_is_a_sentence() -> None:
    with pytest.raises(UserError, match=r"t\.csv is truncated or damaged"):
        decoded("a cat".encode("utf-16")[:-1], "t.csv")


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
def test_lines_of_json_end_at_line_feeds_alone(mark: str) -> None:
    text = "".join(json.dumps({"caption": f"a{mark}b{k}"}, ensure_ascii=mark < "\x20") + "\r\n" for k in range(3))
    assert [(n, row) for n, row in json_rows(text)] == [(k + 1, {"caption": f"a{mark}b{k}"}) for k in range(3)]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "not a JSON object"),
        ("[1]", "not a JSON object"),
        ('{"a": NaN}', "NaN is not a number in JSON"),
        ('{"a": -Infinity}', "-Infinity is not a number in JSON"),
        ('{"a": ' + "9" * 5000 + "}", "a number has 5,000 digits"),
        ('{"a": 1e999}', "the number 1e999 is too large"),
        ('{"a": ' + "[" * 100_000 + "}", "it is nested too deeply"),
    ],
)
def test_a_line_that_is_no_data_says_what_is_wrong(line: str, said: str) -> None:
    assert list(json_rows(line + "\n")) == [(1, said)]


def test_a_caption_with_a_comma_and_no_quotes_is_not_cut_short() -> None:
    table = cells_of("file_name,caption\n0.png,a cat, a dog\n1.png,a cat,,\n", "t.csv", KNOWN)
    assert list(table.rows) == [
        (2, "3 cells where the header has 2: put quotes around the text"),
        (3, {"file_name": "1.png", "caption": "a cat"}),
    ]


def test_blank_rows_of_a_spreadsheet_are_passed_over() -> None:
    table = cells_of(";\n\nfile_name;caption\n;\n0.png;a cat\n1.png;\n; \n;\n", "t.csv", KNOWN)
    expected = [(5, {"file_name": "0.png", "caption": "a cat"}), (6, {"file_name": "1.png", "caption": ""})]
    assert (table.columns, list(table.rows)) == (KNOWN, expected)


@pytest.mark.parametrize("cell", ['"a cat\n1.png,b\n', '"a "red" cat"\n'])
def test_quotes_that_do_not_close_swallow_no_rows(cell: str) -> None:
    table = cells_of(f"file_name,caption\n0.png,{cell}", "t.csv", KNOWN)
    with pytest.raises(UserError, match=r"t\.csv cannot be read beyond line \d: its quotes do not close"):
        list(table.rows)


@pytest.mark.parametrize(
    ("cell", "found"),
    [
        ('["a", "b"]', ["a", "b"]),
        ("['a', 'b']", ["a", "b"]),
        ("""['a cat', "a dog's bone"]""", ["a cat", "a dog's bone"]),
        (" ('a', 'b') ", ["a", "b"]),
        ("['a', \n 'b']", ["a", "b"]),
        ('["a [b]"]', ["a [b]"]),
        ("[]", []),
        ("a cat", None),
        ("[sic] a cat", None),
        ("a cat [sic]", None),
        ("(a man)", None),
        ("", None),
    ],
)
def test_a_list_in_a_cell_is_split_where_it_is_sure(cell: str, found: list[str] | None) -> None:
    assert list_in(cell) == found


@pytest.mark.parametrize(
    "cell", ["['a' 'b']", "['a'\n 'b']", "[a, b]", '["a", 5]', "['a', 'b'", "[a cat]", "[['a']]", "['a', None]", "[1]"]
)
def test_a_list_in_a_cell_that_is_not_sure_is_refused(cell: str) -> None:
    if cell.endswith("]"):
        with pytest.raises(ValueError, match="cannot be split"):
            list_in(cell)
    else:
        assert list_in(cell) is None


@pytest.mark.parametrize("there", ["café/thé.JPG", unicodedata.normalize("NFD", "café/thé.jpg")])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_name_is_found_in_other_accents_and_suffix_case(tmp_path: Path, there: str, form: str) -> None:
    path = tmp_path / there
    path.parent.mkdir()
    path.touch()
    asked = unicodedata.normalize(form, "café/thé.jpg")
    assert FilesBelow(tmp_path).find(asked) == there
    assert Names([there]).find(asked) == there
    assert FilesBelow(tmp_path).find(asked.replace("th", "Th")) is None


def test_a_name_that_two_files_are_like_is_not_guessed(tmp_path: Path) -> None:
    for name in ("a.JPG", "a.Jpg"):
        (tmp_path / name).touch()
    assert FilesBelow(tmp_path).find("a.jpg") is None
    assert FilesBelow(tmp_path).find("a.Jpg") == "a.Jpg"
    assert FilesBelow(tmp_path).find("b\0.jpg") is None
