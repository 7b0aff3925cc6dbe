"""Listing of images from the rows of label tables, with all faults of the rows."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from nascore.config import DataConfig
from nascore.data.class_splits import SPLITS
from nascore.data.columns import Columns, possible_groups, splits_without_names
from nascore.data.file_access import FileEntry
from nascore.data.file_index import FileIndex, split_of_folder
from nascore.data.findings import Findings, Tally, finding
from nascore.data.listing import (
    Listing,
    check_class_names,
    check_names,
    report_left_out,
    report_unlabelled,
)
from nascore.data.split_names import is_unlabelled, split_of
from nascore.data.table_labels import check_values, is_float, labels_of
from nascore.data.tables import Table
from nascore.data.tree import Tree
from nascore.errors import InputError


@dataclass(frozen=True, slots=True)
class LabelTable:
    """A table that names images and their labels.

    Attributes:
        split: split of all its rows, where its name or folder names one.
        folder: folder to which its paths are relative.
    """

    table: Table
    columns: Columns
    index: FileIndex
    folder: str
    split: str | None = None


@dataclass(frozen=True, slots=True)
class _Row:
    entry: FileEntry
    label: str
    split: str | None
    group: str


@dataclass(slots=True)
class _Faults:
    """Rows that cannot be used, by fault."""

    missing: Tally = field(default_factory=Tally)
    ambiguous: Tally = field(default_factory=Tally)
    unlabelled: Tally = field(default_factory=Tally)
    floats: Tally = field(default_factory=Tally)
    several: Tally = field(default_factory=Tally)
    splits: Tally = field(default_factory=Tally)


def list_rows(
    tree: Tree,
    tables: Sequence[LabelTable],
    config: DataConfig,
    findings: Findings,
    unlabelled: set[str],
) -> Listing:
    """Return the images that tables name, by split, class and name.

    Args:
        unlabelled: test images that are known to have no label.
    """
    faults = _Faults()
    rows = [row for table in tables for row in _rows(table, faults)]
    names = ", ".join(one.table.name for one in tables)
    counts = Counter(row.entry.name for row in rows)
    _report_columns(tables, config, findings)
    _report(faults, counts, names, config, findings)
    report_left_out(tree, {"all together": [tree.root]}, config, findings)
    others = [e.name for e in tree.root.all_images() if e.name not in counts]
    _report_others(others, unlabelled, counts, names, config, findings)
    unique = list({row.entry.name: row for row in rows}.values())
    if not unique:
        message = f"{names} names no image that is there"
        raise InputError([*findings.problems, finding(config, "layout", message)])
    check_values([row.label for row in unique], tables[0].columns, config, findings)
    return _listing(_with_splits(unique, tables, config, findings), config, findings)


def _rows(one: LabelTable, faults: _Faults) -> list[_Row]:
    columns, cells = one.columns, one.table.columns
    files = cells[columns.file]
    blank = [""] * len(files)
    labels = labels_of(one.table, columns, faults.several)
    splits = cells[columns.split] if columns.split else blank
    groups = cells[columns.group] if columns.group else blank
    rows = []
    for cell, label, split, group in zip(files, labels, splits, groups, strict=True):
        meant = columns.split_of(split) if columns.split else one.split
        found = one.index.find(cell)
        if len(found) > 1 and columns.split:
            found = one.index.of_split(meant).find(cell)
        if label is None:
            faults.unlabelled.add(cell)
        elif not found:
            faults.missing.add(cell)
        elif len(found) > 1:
            faults.ambiguous.add(cell, f"{found[0].name}, {found[1].name}")
        else:
            if columns.split and meant is None:
                faults.splits.add(cell, f"{split!r}")
            if is_float(label):
                faults.floats.add(cell, label)
            rows.append(_Row(found[0], label, meant, group))
    return rows


# --- what is wrong with rows ----------------------------------------------------------------


def _report_columns(tables: Sequence[LabelTable], config: DataConfig, findings: Findings) -> None:
    columns = tables[0].columns
    label = columns.label or f"one column a class ({', '.join(columns.one_hot[:3])}, ...)"
    shown = {
        "files": columns.file,
        "labels": label,
        "splits": columns.split,
        "groups": columns.group,
    }
    text = ", ".join(f"{what} from {name!r}" for what, name in shown.items() if name)
    names = [one.table.name for one in tables]
    message = f"labels are those of {', '.join(names)}: {text}"
    findings.warnings.append(finding(config, "table-used", message, names))
    unknown = [] if columns.split else splits_without_names(tables[0].table)
    unknown = [name for name in unknown if name not in (columns.label, columns.group)]
    if unknown:
        message = (
            "column {examples} may say which images belong to which split, and does not call them "
            "train, valid or test; it is not used: write these words where the splits matter"
        )
        findings.warnings.append(finding(config, "split-not-used", message, unknown))
    groups = possible_groups(tables[0].table) if columns.group is None else []
    groups = [name for name in groups if name not in (columns.label, columns.file)]
    if groups:
        message = (
            "column {examples} may say which images belong together, and they are divided among "
            "the splits; set data.group to it, so that nothing is learned of a group in another"
        )
        findings.warnings.append(finding(config, "group-not-used", message, groups))


def _report(
    faults: _Faults, counts: Counter[str], names: str, config: DataConfig, findings: Findings
) -> None:
    twice = Tally()
    for name, count in counts.items():
        if count > 1:
            twice.add(name, f"{count} rows")
    allow = "set data.allow_skipped=true to leave them out"
    by_kind = {
        "missing-files": (
            faults.missing,
            f"{names} names {{count}} files that are not there: {{examples}}; add them, remove the "
            f"rows, or {allow}",
        ),
        "unlabelled-rows": (
            faults.unlabelled,
            f"{names} has {{count}} rows without a label: {{examples}}; label them, or {allow}",
        ),
        "ambiguous-files": (
            faults.ambiguous,
            f"{names} has {{count}} names that are those of several files: {{examples}}; write "
            "their paths",
        ),
        "duplicate-rows": (
            twice,
            f"{names} has {{count}} images in several rows: {{examples}}; leave one row for each",
        ),
        "several-labels": (
            faults.several,
            f"{names} has {{count}} images of several classes: {{examples}}; networks here learn "
            "one class for each image",
        ),
        "float-labels": (
            faults.floats,
            f"{names} has {{count}} labels that are floats: {{examples}}; write whole numbers or "
            "names",
        ),
        "unknown-split": (
            faults.splits,
            f"{names} has {{count}} rows whose split is none of train, valid, test: {{examples}}; "
            "correct them",
        ),
    }
    for kind, (tally, message) in by_kind.items():
        if tally.count:
            made = tally.finding(config, kind, message)
            is_allowed = config.allow_skipped and allow in message
            (findings.warnings if is_allowed else findings.problems).append(made)


def _report_others(
    others: Sequence[str],
    unlabelled: set[str],
    counts: Counter[str],
    names: str,
    config: DataConfig,
    findings: Findings,
) -> None:
    """Report images that no row names; test images without labels are usual (Kaggle)."""
    labelled_folders = {name.rpartition("/")[0] for name in counts}

    def is_apart(name: str) -> bool:
        folders = name.split("/")[:-1]
        is_test = any(split_of(folder) == "test" or is_unlabelled(folder) for folder in folders)
        return name in unlabelled or (is_test and "/".join(folders) not in labelled_folders)

    apart = [name for name in others if is_apart(name)]
    if apart:
        message = "{count} test images have no label: {examples}; they were left out"
        findings.warnings.append(finding(config, "unlabelled-files", message, apart))
    rest = [name for name in others if not is_apart(name)]
    report_unlabelled(rest, len(counts), config, findings, why=f"{names} does not name them")


# --- splits and groups ----------------------------------------------------------------------


def _with_splits(
    rows: list[_Row], tables: Sequence[LabelTable], config: DataConfig, findings: Findings
) -> list[_Row]:
    """Return rows with their splits; those of the folders where no table has any."""
    if not any(row.split for row in rows):
        base = tables[0].folder
        found = [split_of_folder(row.entry.name.removeprefix(base)) for row in rows]
        if None in found and "test" in found:
            names = [
                row.entry.name for row, split in zip(rows, found, strict=True) if split is None
            ]
            message = (
                "{count} images lie in no folder of a split, and others do: {examples}; add a "
                "column split to the table"
            )
            findings.problems.append(finding(config, "unknown-split", message, names))
        if None in found:
            return rows
        rows = [replace(row, split=split) for row, split in zip(rows, found, strict=True)]
    splits = {row.split for row in rows}
    if splits == {"train"}:
        return [replace(row, split=None) for row in rows]
    if "train" not in splits:
        message = f"has labels for {', '.join(sorted(filter(None, splits)))} and none for train"
        raise InputError([*findings.problems, finding(config, "empty-split", message)])
    return rows


def _listing(rows: list[_Row], config: DataConfig, findings: Findings) -> Listing:
    by_split = {split: [row for row in rows if (row.split or "train") == split] for split in SPLITS}
    ordered = [
        row
        for split in SPLITS
        for row in sorted(by_split[split], key=lambda row: (row.label, row.entry))
    ]
    entries = [row.entry for row in ordered]
    labels = [row.label for row in ordered]
    findings.problems = check_names(entries, findings.problems, config)
    findings.problems += check_class_names(labels, config)
    for split in ("valid", "test"):
        known = {row.label for row in by_split["train"]}
        unknown = sorted({row.label for row in by_split[split]} - known)
        if unknown:
            message = f"{split} has {{count}} classes that train does not have: {{examples}}"
            findings.problems.append(finding(config, "unknown-class", message, unknown))
    listing = Listing.of(
        entries, labels, num_test=len(by_split["test"]), num_valid=len(by_split["valid"])
    )
    groups = _groups([row.group for row in ordered]) if config.group else None
    return replace(listing, image_groups=groups)


def _groups(names: Sequence[str]) -> NDArray[np.int64]:
    """Return numbers of groups; an image without one is a group of its own."""
    own = [name or f"\0{number}" for number, name in enumerate(names)]
    return np.unique(np.array(own), return_inverse=True)[1].astype(np.int64)
