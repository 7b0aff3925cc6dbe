"""Tables of trained architectures: one CSV row for each.

A row has an architecture, the metric that a search sees and the metric that is reported; both are
maximised, in any unit. Other columns are ignored.
"""

import csv
import difflib
import gzip
import io
import math
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from nascore.errors import GenotypeNotInSpace, InputError, Problem
from nascore.genotype import Genotype
from nascore.spaces.base import SearchSpace
from nascore.spaces.nasbench201.config import Cell201SpaceConfig
from nascore.spaces.nasbench201.space import Cell201Space
from nascore.tabular_benchmark.space import CategoricalSpace

SPACES = ("nasbench201", "categorical")
ARCH_COLUMN = "arch_str"
_LISTED = 5  # problems of one kind that are listed; of more only the number is given
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class Table:
    """Architectures and their scores.

    Attributes:
        rows: tokens -> (search metric, report metric), in the table's unit.
        sha256: of the file.
    """

    space: SearchSpace
    rows: Mapping[tuple[int, ...], tuple[float, float]]
    name: str
    sha256: str
    search_metric: str
    report_metric: str

    @property
    def coverage(self) -> float:
        """Share of the space's token strings that are in the table."""
        return len(self.rows) / math.prod(self.space.cardinalities)

    @property
    def scale(self) -> float:
        """Factor from the search metric to the fraction that methods expect.

        1 if all values are within -1 to 1, else 1/100, for percentages. It depends on the unit
        alone, so it does not reveal the best value to a method.
        """
        return 1.0 if max(abs(search) for search, _ in self.rows.values()) <= 1 else 0.01


def read_table(
    path: Path,
    space: str,
    *,
    search_metric: str,
    report_metric: str,
    arch_column: str = ARCH_COLUMN,
) -> Table:
    """Read a CSV file, gzipped or not.

    Args:
        path: of the file.
        space: `nasbench201` (architecture strings in the benchmark's notation) or `categorical`
            (one character per decision; the characters at a position are its values).
        search_metric: column of the score that a search sees.
        report_metric: column of the score that is reported.
        arch_column: column of the architecture.

    Returns:
        The table.

    Raises:
        InputError: the file cannot be read, columns are missing, cells are not finite numbers,
            architectures are duplicates or do not fit the space; it lists all problems.
    """
    if space not in SPACES:
        raise InputError.of("--space", space, f"must be one of {', '.join(SPACES)}")
    content = _content(path)
    columns = {"--arch-column": arch_column}
    columns |= {"--search-metric": search_metric, "--report-metric": report_metric}
    lines, cells, problems = _cells(path, content, columns)
    architectures = cells["--arch-column"]
    searched, more = _numbers(path.name, search_metric, lines, cells["--search-metric"])
    problems += more
    reported = searched
    if report_metric != search_metric:
        reported, more = _numbers(path.name, report_metric, lines, cells["--report-metric"])
        problems += more
    made, genotypes, more = _genotypes(path.name, space, arch_column, lines, architectures)
    problems += more
    if problems:
        raise InputError(problems)
    tokens = [genotype.tokens for genotype in genotypes]
    rows = dict(zip(tokens, zip(searched, reported, strict=True), strict=True))
    return Table(made, rows, path.name, sha256(content).hexdigest(), search_metric, report_metric)


# --- the file -------------------------------------------------------------------------------


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise InputError.of("--table", path, "there is no such file") from error
    except OSError as error:
        raise InputError.of("--table", path, f"cannot be read ({error.strerror})") from error


def _cells(
    path: Path, content: bytes, columns: Mapping[str, str]
) -> tuple[list[int], dict[str, list[str]], list[Problem]]:
    """Return line numbers, the text of the wanted columns by option, and problems.

    Raises:
        InputError: the file is not a table, or does not have a wanted column exactly once.
    """
    try:
        text = (gzip.decompress(content) if content.startswith(_GZIP) else content).decode(
            "utf-8-sig"
        )
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = next(reader, [])
        numbered = [(reader.line_num, row) for row in reader if row]
    except (OSError, EOFError, zlib.error) as error:
        raise InputError.of("--table", path, f"is a damaged gzip file ({error})") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError.of("--table", path, f"is no CSV text in UTF-8 ({error})") from error
    problems = [
        problem
        for option, name in columns.items()
        for problem in _column_problems(option, name, header)
    ]
    if len(numbered) < 2:
        problems.append(
            Problem("--table", str(path), f"needs two architectures or more, has {len(numbered)}")
        )
    if problems:
        raise InputError(problems)
    ragged = [
        Problem(
            f"{path.name} line {line}",
            "",
            f"has {len(row)} cells, the header has {len(header)}; complete or delete it",
        )
        for line, row in numbered
        if len(row) != len(header)
    ]
    whole = [(line, row) for line, row in numbered if len(row) == len(header)]
    places = {option: header.index(name) for option, name in columns.items()}
    cells = {option: [row[place] for _, row in whole] for option, place in places.items()}
    return [line for line, _ in whole], cells, _shortened(ragged)


def _column_problems(option: str, name: str, header: Sequence[str]) -> list[Problem]:
    count = header.count(name)
    if count == 1:
        return []
    if count > 1:
        return [Problem(option, name, f"the table has {count} columns of this name; rename one")]
    close = difflib.get_close_matches(name, header, n=1)
    advice = f"; did you mean {close[0]!r}?" if close else f"; it has {', '.join(header) or 'none'}"
    return [Problem(option, name, f"the table has no such column{advice}")]


def _numbers(
    file: str, column: str, lines: Sequence[int], cells: Sequence[str]
) -> tuple[list[float], list[Problem]]:
    numbers, problems = [], []
    for line, cell in zip(lines, cells, strict=True):
        try:
            number = float(cell)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            key = f"{file} line {line}, column {column}"
            problems.append(
                Problem(key, repr(cell), "is no finite number; correct or delete the row")
            )
        numbers.append(number)
    return numbers, _shortened(problems)


# --- the architectures ----------------------------------------------------------------------


def _genotypes(
    file: str, space: str, column: str, lines: Sequence[int], cells: Sequence[str]
) -> tuple[SearchSpace, list[Genotype], list[Problem]]:
    """Return the space, the architectures that fit it, and the problems of the others."""
    made: SearchSpace
    parse: Callable[[str], Genotype]
    if space == "nasbench201":
        made = cell = Cell201Space(Cell201SpaceConfig())
        parse = cell.from_arch_str
    else:
        made = strings = _categorical(cells)
        parse = strings.parse
    genotypes, unfit, doubles = [], [], []
    seen: dict[Genotype, int] = {}
    for line, text in zip(lines, cells, strict=True):
        key = f"{file} line {line}, column {column}"
        try:
            genotype = parse(text)
        except GenotypeNotInSpace as error:
            unfit.append(Problem(key, repr(text), f"does not fit --space {space}: {error}"))
            continue
        first = seen.setdefault(genotype, line)
        if first != line:
            doubles.append(
                Problem(key, repr(text), f"is on line {first} already; keep one of the rows")
            )
        genotypes.append(genotype)
    return made, genotypes, _shortened(unfit) + _shortened(doubles)


def _categorical(cells: Sequence[str]) -> CategoricalSpace:
    """Return the space of the strings of the most common length; others do not fit it."""
    lengths = Counter(len(cell) for cell in cells if cell)
    length = lengths.most_common(1)[0][0] if lengths else 1
    return CategoricalSpace.of([cell for cell in cells if len(cell) == length])


def _shortened(problems: list[Problem]) -> list[Problem]:
    """Return the first few problems of a kind, and the number of the others."""
    if len(problems) <= _LISTED:
        return problems
    last = problems[_LISTED - 1]
    more = f"{last.message} (and {len(problems) - _LISTED} more rows like it)"
    return [*problems[: _LISTED - 1], Problem(last.key, last.value, more)]
