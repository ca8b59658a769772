"""CSV as it is found: delimiters, headers and quotes are recognised, and a broken row costs itself alone."""

from __future__ import annotations

import csv
import io
import random
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from factory.errors import InputError
from factory.files.base import ReadOptions
from factory.files.open import open_source


def read(path: Path, **options: Any) -> list[tuple[int, list[Any]]]:
    """Line and cells of every row; the words of a row that cannot be read."""
    source = open_source(ReadOptions(path, **options))
    found: list[tuple[int, list[Any]]] = []
    for batch in source.batches(list(source.columns)):
        rows = zip(*(batch.columns[name] for name in source.columns), strict=True)
        found += [(number, list(row)) for number, row in zip(batch.row_nos, rows, strict=True)]
        found += [(bad.row_no, [f"{bad.reason}: {bad.detail}", bad.lines]) for bad in batch.bad]
    return sorted(found, key=lambda row: row[0])


def columns(path: Path, **options: Any) -> list[str]:
    return list(open_source(ReadOptions(path, **options)).columns)


def put(folder: Path, content: str | bytes, name: str = "m.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_the_delimiter_is_the_one_under_which_rows_have_the_headers_cells(tmp_path: Path, mark: str) -> None:
    rows = [
        ["id", "queue", "text"],
        ["1", "Invoices, charges; and | refunds", "Where is it"],
        ["2", "Parcels", "a, b, c"],
    ]
    stream = io.StringIO()
    csv.writer(stream, delimiter=mark).writerows(rows)
    path = put(tmp_path, stream.getvalue())
    assert columns(path) == rows[0]
    assert [cells for _, cells in read(path)] == rows[1:]


def test_a_header_that_holds_another_delimiter_more_often_does_not_mislead(tmp_path: Path) -> None:
    path = put(tmp_path, "id;text (title, body, more)\n1;hello\n2;you, there\n")
    assert columns(path) == ["id", "text (title, body, more)"]
    assert [cells for _, cells in read(path)] == [["1", "hello"], ["2", "you, there"]]


def test_commas_in_the_texts_of_one_column_cut_nothing(tmp_path: Path) -> None:
    path = put(tmp_path, 'text\nHello, world\n"quoted, too"\nplain; text\n')
    assert [cells for _, cells in read(path)] == [["Hello, world"], ["quoted, too"], ["plain; text"]]


@pytest.mark.parametrize("first", ["sep=;\n", '"sep=;"\r\n', "SEP=;\n"])
def test_excels_sep_line_is_no_row_and_says_the_delimiter(tmp_path: Path, first: str) -> None:
    path = put(tmp_path, first + "text;label\na,b;x\n")
    assert read(path) == [(3, ["a,b", "x"])]


def test_empty_columns_at_the_end_are_none_and_a_cell_under_them_is_a_broken_row(tmp_path: Path) -> None:
    path = put(tmp_path, "text,label,,\na,x,,\nb,y\nc,z,,,\nd,x,note,\n")
    assert columns(path) == ["text", "label"]
    assert read(path) == [
        (2, ["a", "x"]), (3, ["b", "y"]), (4, ["c", "z"]), (5, ["broken_row: 4 cells where the header has 2", 1]),
    ]  # fmt: skip


def test_one_column_without_a_name_as_pandas_writes_its_index_stays(tmp_path: Path) -> None:
    assert columns(put(tmp_path, ",text,label\n0,a,x\n")) == ["", "text", "label"]
    assert columns(put(tmp_path, ",text,,label\n0,a,b,x\n")) == ["column_1", "text", "column_3", "label"]


def test_a_header_cell_may_hold_a_line_end(tmp_path: Path) -> None:
    path = put(tmp_path, '"What is\nyour question?",label\n"Where\nis it",x\nb,y\n')
    assert columns(path) == ["What is\nyour question?", "label"]
    assert read(path) == [(3, ["Where\nis it", "x"]), (5, ["b", "y"])]


def test_columns_may_be_told_where_there_is_no_header(tmp_path: Path) -> None:
    path = put(tmp_path, "I was charged twice,billing\nWhere is it,delivery\n")
    assert read(path, header=("text", "label")) == [
        (1, ["I was charged twice", "billing"]),
        (2, ["Where is it", "delivery"]),
    ]


def test_quotes_escaped_by_backslashes_are_understood(tmp_path: Path) -> None:
    path = put(tmp_path, 'text,label\n"He said \\"twice\\", to me",billing\n"Where is it",delivery\n')
    assert [cells for _, cells in read(path)] == [['He said "twice", to me', "billing"], ["Where is it", "delivery"]]
    path = put(tmp_path, 'text,label\n"C:\\temp, C:\\new",billing\n')
    assert [cells for _, cells in read(path)] == [["C:\\temp, C:\\new", "billing"]], "no quote is escaped: it stays"


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n"])
def test_every_kind_of_line_end_is_a_line_end(tmp_path: Path, end: str) -> None:
    path = put(tmp_path, end.join(["text,label", "a,x", '"b', 'c",y', ""]))
    assert read(path) == [(2, ["a", "x"]), (3, [f"b{end}c", "y"])]


def test_blank_lines_are_rows_only_where_position_counts(tmp_path: Path) -> None:
    one, two = put(tmp_path, "text\na\n\nb\n\n"), put(tmp_path, "id,text\n1,a\n\n2,b\n\n", "two.csv")
    assert [row for row, _ in read(one)] == [2, 4]
    assert read(one, blank_rows=True) == [(2, ["a"]), (3, [None]), (4, ["b"]), (5, [None])]
    assert read(two, blank_rows=True) == [(2, ["1", "a"]), (3, [None, None]), (4, ["2", "b"])]


# Broken rows ------------------------------------------------------------------------------------------------------------
NEVER_CLOSED = "broken_row: a quote is opened here and never closed"


def test_a_quote_that_is_never_closed_costs_its_own_row_alone(tmp_path: Path) -> None:
    path = put(tmp_path, 'text,label\n"I was charged,billing\nWhere is it,delivery\nReset it,account\n')
    assert read(path) == [
        (2, [NEVER_CLOSED, 1]), (3, ["Where is it", "delivery"]), (4, ["Reset it", "account"]),
    ]  # fmt: skip


def test_a_quote_that_the_next_quoted_cell_closes_costs_its_own_row_alone(tmp_path: Path) -> None:
    path = put(tmp_path, 'text,label\na,x\n"b,y\nc,x\n"d, quoted",y\ne,x\n"f\ng",y\n')
    found = read(path)
    assert found[1][0] == 3
    assert found[1][1][1] == 1
    assert found[0:1] + found[2:] == [
        (2, ["a", "x"]),
        (4, ["c", "x"]),
        (5, ["d, quoted", "y"]),
        (6, ["e", "x"]),
        (7, ["f\ng", "y"]),
    ]


def test_lines_that_are_no_rows_by_themselves_are_counted_with_the_row_that_lost_them(tmp_path: Path) -> None:
    path = put(tmp_path, 'text,label\n"a quote, and\nsome prose\nmore prose\n"b"c,y\nd,x\n')
    assert read(path) == [
        (2, ["broken_row: text follows a closing quote (a quote inside a cell is written twice); with it 2 more lines cannot"
             " be told apart", 3]),
        (5, ["broken_row: text follows a closing quote (a quote inside a cell is written twice)", 1]),
        (6, ["d", "x"]),
    ]  # fmt: skip


def test_a_whole_row_of_the_wrong_length_is_one_row_over_its_lines(tmp_path: Path) -> None:
    path = put(tmp_path, 'text,label\n"one\nno,row here\ntwo",billing,extra\nok,delivery\n')
    assert read(path) == [
        (2, ["broken_row: 3 cells where the header has 2 (lines 2 to 4)", 3]), (5, ["ok", "delivery"]),
    ]  # fmt: skip


def test_a_long_file_after_an_unclosed_quote_is_read_to_its_end_in_bounded_time(tmp_path: Path) -> None:
    lines, words = 25_000, "and more words of it " * 18
    path = put(
        tmp_path,
        'text,label\n"never closed,x\n' + "".join(f"a plain row number {n} {words},y\n" for n in range(lines)),
    )
    started = time.process_time()
    found = read(path)
    assert len(found) == lines + 1
    assert found[0] == (2, ["broken_row: a cell is longer than may be; a quote may be opened here and never closed", 1])
    assert time.process_time() - started < 20


@pytest.mark.parametrize("line", ['a","b\n', 'x,"""y\n', '"a ""b"" c\n', '"\n', 'a,"\n'])
def test_no_pattern_of_quotes_makes_reading_slow(tmp_path: Path, line: str) -> None:
    path = put(tmp_path, "text,label\n" + line * 60_000 + "last,x\n")
    started = time.process_time()
    found = read(path)
    assert time.process_time() - started < 20
    lost = sum(cells[1] for _, cells in found if str(cells[0]).startswith("broken_row"))
    assert lost + sum(not str(cells[0]).startswith("broken_row") for _, cells in found) <= 60_001


cells = st.text(st.characters(exclude_categories=("Cs", "Cc"), include_characters="\t\n\r\x85"), max_size=12)
"""Any text; a file of little else than control characters is refused as no text."""


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(cells, cells, cells), min_size=1, max_size=9), mark=st.sampled_from([",", ";", "\t", "|"])
)
def test_what_was_written_is_read_back_with_its_lines(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]], mark: str
) -> None:
    path = tmp_path_factory.mktemp("csv") / "m.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=mark, quoting=csv.QUOTE_ALL)
        writer.writerows([("one", "two", "three"), *rows])
    found = read(path, delimiter=mark)
    assert [tuple(row) for _, row in found] == rows
    assert [number for number, _ in found] == sorted({number for number, _ in found})


def test_a_row_that_is_broken_loses_no_other_row_wherever_it_stands(tmp_path: Path) -> None:
    rng = random.Random(4)
    for _ in range(40):
        endings = ["plain", "a, b", 'with a "quote"', "two\nlines"]
        rows = [[f"text {n}, {rng.choice(endings)}", "xy"[n % 2]] for n in range(12)]
        parts = []
        for row in rows:
            stream = io.StringIO()
            csv.writer(stream, quoting=csv.QUOTE_ALL, lineterminator="\n").writerow(row)
            parts.append(stream.getvalue())
        at = rng.randrange(12)
        parts[at] = f'"opened and not closed {at},x\n'
        found = [cells for _, cells in read(put(tmp_path, "text,label\n" + "".join(parts)))]
        assert [row for row in rows if row not in found] == [rows[at]]


def test_a_file_that_holds_no_row_after_its_sep_line_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="empty but for its `sep=` line"):
        read(put(tmp_path, "sep=;\n"))
    with pytest.raises(InputError, match="no name in it"):
        read(put(tmp_path, ",,\n1,2,3\n"))
    with pytest.raises(InputError, match="cannot separate columns"):
        read(put(tmp_path, 'a"b\n1"2\n'), delimiter="\n")
