"""Reading of tables: CSV with any delimiter, TSV, JSON lines, Parquet."""

import csv
import importlib
import importlib.util
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from nascore.errors import InputError

READABLE = (".csv", ".tsv", ".tab", ".txt", ".jsonl", ".ndjson", ".parquet")
_DELIMITERS = (",", ";", "\t", "|")
_SAMPLE_LINES = 20


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as text, column by column.

    Attributes:
        name: its name in messages.
        columns: by their name; all of one length.
    """

    name: str
    columns: dict[str, list[str]]

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return len(next(iter(self.columns.values()), []))


class TableError(ValueError):
    """A table cannot be read; the text is the reason and what to do."""


def read_table(name: str, content: bytes) -> Table:
    """Read a table of the kind that its name says.

    Raises:
        TableError: It is damaged, not UTF-8, has no header, or rows of different lengths.
    """
    if name.lower().endswith(".parquet"):
        return Table(name, _parquet(name, content))
    text = _text(content)
    if name.lower().endswith((".jsonl", ".ndjson")):
        return Table(name, _json_lines(text))
    return Table(name, _delimited(text, "\t" if name.lower().endswith((".tsv", ".tab")) else None))


def _text(content: bytes) -> str:
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return content.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise TableError(f"is not UTF-8 ({error}); save it as UTF-8") from error


def _delimited(text: str, delimiter: str | None) -> dict[str, list[str]]:
    if not text.strip():
        raise TableError("is empty; write a header and a row for each image")
    lines = text.splitlines(keepends=True)
    if lines[0].lower().startswith("sep=") and len(lines) > 1:  # Excel says it in the first line
        delimiter, lines = lines[0].strip()[4:5] or None, lines[1:]
    while len(lines) > 1 and lines[0].startswith("# "):  # a comment; `#file,label` is a header
        lines = lines[1:]
    delimiter = delimiter or _sniffed(lines[:_SAMPLE_LINES])
    try:
        rows = [row for row in csv.reader(io.StringIO("".join(lines)), delimiter=delimiter) if row]
    except csv.Error as error:
        raise TableError(f"is damaged ({error}); repair it") from error
    rows = [row for row in rows if any(cell.strip() for cell in row)]
    if not rows:
        raise TableError("is empty; write a header and a row for each image")
    header = _header(rows[0])
    width = len(header)
    # Blanks behind the last column say nothing.
    rows = [row[:width] if not any(row[width:]) else row for row in rows]
    ragged = [number for number, row in enumerate(rows, start=1) if len(row) != width]
    if ragged:
        raise TableError(
            f"has {len(ragged)} rows with more or fewer cells than its header, the first is row "
            f"{ragged[0]}; put cells with {delimiter!r} in them into quotes"
        )
    columns = [_unquoted([row[i].strip() for row in rows]) for i in range(width)]
    return {_unquoted([name])[0]: cells[1:] for name, cells in zip(header, columns, strict=True)}


def _unquoted(cells: list[str]) -> list[str]:
    """Return cells without single quotes around each of them, which csv does not know."""
    is_quoted = all(len(cell) > 1 and cell[0] == cell[-1] == "'" for cell in cells)
    return [cell[1:-1] for cell in cells] if is_quoted and cells else cells


def _header(cells: Sequence[str]) -> list[str]:
    names = [cell.strip().removeprefix("#") for cell in cells]
    # pandas writes its index as a column without a name.
    names = [name or f"column {number}" for number, name in enumerate(names, start=1)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise TableError(f"has columns of one name: {', '.join(twice)}; rename them")
    return names


def _sniffed(lines: Sequence[str]) -> str:
    """Return the delimiter with the same number of cells, more than one, in the first rows."""
    best, most = _DELIMITERS[0], 1
    for delimiter in _DELIMITERS:
        try:
            rows = [row for row in csv.reader(lines, delimiter=delimiter) if row]
        except csv.Error:
            continue
        # The last of the rows may end within quotes.
        lengths = {len(row) for row in (rows[:-1] if len(rows) == _SAMPLE_LINES else rows)}
        if len(lengths) == 1 and max(lengths) > most:
            best, most = delimiter, max(lengths)
    blanks = {len(line.split()) for line in lines if line.strip()}
    if most == 1 and blanks == {2}:  # lists such as `images/1.png 0`
        return " "
    if most == 1:  # not one of them is even: the one of the header is most likely meant
        best = max(_DELIMITERS, key=lambda delimiter: lines[0].count(delimiter))
    return best


def _json_lines(text: str) -> dict[str, list[str]]:
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise TableError(f"line {number} is no JSON ({error}); repair it") from error
        if not isinstance(row, dict):
            raise TableError(f"line {number} is no JSON object; write one object a line")
        rows.append(row)
    if not rows:
        raise TableError("is empty; write a JSON object for each image")
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {name: [cell_text(row.get(name)) for row in rows] for name in names}


def _parquet(name: str, content: bytes) -> dict[str, list[str]]:
    parquet = load_pyarrow("data.labels", name)
    try:
        table = parquet.read_table(io.BytesIO(content))
    except (OSError, ValueError) as error:  # pyarrow's own errors derive from these
        raise TableError(f"is no whole Parquet file ({error}); write it again") from error
    return {
        column: [cell_text(value) for value in table[column].to_pylist()]
        for column in table.column_names
        if column != "__index_level_0__"  # pandas' index
    }


def load_pyarrow(key: str, value: str) -> ModuleType:
    """Return `pyarrow.parquet`; it comes with MLflow, and `nascore` alone does without.

    Raises:
        InputError: It is not installed.
    """
    if importlib.util.find_spec("pyarrow") is None:
        message = "is a Parquet file; install pyarrow to read it, or write it as .csv or .npz"
        raise InputError.of(key, value, message)
    return importlib.import_module("pyarrow.parquet")


def cell_text(value: object) -> str:
    """Return a cell as text; empty for no value. A list of one value is that value."""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str | int):
        value = value[0]
    if value is None or value != value:
        return ""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise TableError(
                f"has bytes that are not UTF-8 ({value[:20]!r}); write text"
            ) from error
    return str(value).strip()
