"""Cells of a label column: one class, several, a number with a fraction, or none."""

import re
from collections import Counter
from collections.abc import Sequence

from nascore.config import DataConfig
from nascore.data.columns import Columns, one_hot_labels
from nascore.data.findings import Findings, Tally, finding
from nascore.data.tables import Table

_FLOAT = re.compile(r"[+-]?(\d+[.,]\d*|[.,]\d+)([eE][+-]?\d+)?|[+-]?\d+[eE][+-]?\d+")
_FEW = 8  # different labels that a small table may have
_MISSING = frozenset({"", "nan", "none", "null", "na", "n/a", "<na>"})
_BYTES = re.compile(r"b'[^']*'|b\"[^\"]*\"")
_BETWEEN_LABELS = ("|", ";", ",")


def is_float(label: str) -> bool:
    """Return whether a label is a number with a fraction, with a point or a comma."""
    return _FLOAT.fullmatch(label) is not None


def labels_of(table: Table, columns: Columns, several: Tally) -> list[str | None]:
    """Return the label of each row; None where it has none.

    Args:
        several: counts images with several labels.
    """
    files = table.columns[columns.file]
    if columns.label is not None:
        cells = _as_text(table.columns[columns.label])
        lists = _several(set(cells))
        for file, cell in zip(files, cells, strict=True):
            if cell in lists:
                several.add(file, cell)
        return [None if cell.casefold() in _MISSING else cell for cell in cells]
    labels: list[str | None] = []
    for cell, found in zip(files, one_hot_labels(table, columns.one_hot), strict=True):
        if len(found) > 1:
            several.add(cell, f"{found[0]}, {found[1]}")
        labels.append(found[0] if found else None)
    return labels


def check_values(
    labels: Sequence[str], columns: Columns, config: DataConfig, findings: Findings
) -> None:
    """Report class columns without a 1, and a label column whose values are no classes.

    Args:
        labels: labels of all images.
    """
    values = dict.fromkeys(labels)
    lacking = [name for name in columns.one_hot if name not in values]
    if lacking:
        message = "columns of {count} classes have no image: {examples}; they were left out"
        findings.warnings.append(finding(config, "missing-class", message, lacking))
    if len(values) > max(_FEW, len(labels) // 2):
        message = (
            f"column {columns.label!r} has {len(values):,} different values for {len(labels):,} "
            "images ({examples}): these are no classes; set data.label_column to another column, "
            "or put the values into a few classes"
        )
        findings.problems.append(finding(config, "table", message, list(values)[:3]))


def _as_text(cells: list[str]) -> list[str]:
    """Return cells without the b'' that Python writes around bytes, where all of them have it."""
    found = [_BYTES.fullmatch(cell) for cell in cells if cell]
    if not found or not all(found):
        return cells
    return [cell[2:-1] for cell in cells]


def _several(cells: set[str]) -> set[str]:
    """Return cells with several labels: a list, or several labels of other cells."""
    found = {cell for cell in cells if cell[:1] in "[{" and cell[-1:] in "]}"}
    cells = {cell for cell in cells if not is_float(cell)}
    for sign in _BETWEEN_LABELS:
        parts = {
            cell: {part.strip() for part in cell.split(sign)} for cell in cells if sign in cell
        }
        shared = Counter(part for own in parts.values() for part in own)
        known = cells | ({part for part, count in shared.items() if count > 1} - {""})
        found |= {cell for cell, own in parts.items() if own <= known}
    return found - {""}
