"""How the folders of an image data set tell its classes, where each split has classes of its own.

| in the folder | splits |
| --- | --- |
| `train.csv`, `val.csv`, `test.csv` | those of the tables, as mini-ImageNet publishes them |
| `train/`, `val/`, `test/` with a folder a class | those of the folders |
| a folder a group, and in it a folder a class | of whole groups, drawn |
| a folder a class, also in `train/` and `test/` with the same classes | of classes, drawn |

The tables have a column `label`, and a row for each image or for each class. The images of a class
are all that lie in the folder of that name, in the root or in `images/`. Where there is no such
folder they are those of the column `filename`, wherever in `images/` they lie.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from itertools import combinations

from nascore.config import DataConfig
from nascore.data.classes import SPLITS, ClassSplits
from nascore.data.files import Entry, Files
from nascore.data.layouts import Listing, Tree, check_names, list_tree, without_images
from nascore.data.raw import few, problem, shortened
from nascore.errors import InputError, Problem

_VALID = ("val", "valid")
_IMAGES = "images/"

_Members = dict[str, list[Entry]]  # images of each class


def list_by_class(files: Files, config: DataConfig) -> tuple[Listing, list[Problem]]:
    """Images and what is wrong with them; raises InputError when there is nothing to look at."""
    tree = Tree(files)
    tables = _parts([name for name in tree.beside if name.endswith(".csv")], ".csv")
    if tables:
        return _by_tables(tree, tables, files, config)
    holders = [f"{name}/" for name in tree.folders[""] if f"{name}/" not in tree.has_images]
    parts = _parts(holders, "/")
    if len(parts) == len(SPLITS):
        return _by_parts(tree, parts, config)
    if {"train", "test"} & set(parts):
        listing, problems = list_tree(tree, files.root, config)
        return Listing(listing.entries, listing.labels, listing.classes, 0), problems
    if holders:
        return _by_groups(tree, config)
    return list_tree(tree, files.root, config)


def _parts(names: Sequence[str], ending: str) -> dict[str, str]:
    """Which of the names is that of which split."""
    found = {}
    for split in SPLITS:
        for name in _VALID if split == "valid" else (split,):
            if f"{name}{ending}" in names:
                found[split] = f"{name}{ending}"
    return found


def _by_parts(
    tree: Tree, parts: Mapping[str, str], config: DataConfig
) -> tuple[Listing, list[Problem]]:
    problems = []
    others = sorted(tree.folders[""] - {name[:-1] for name in parts.values()})
    if others:
        message = f"has folders beside {few(parts.values())}: {few(others)}; move them away"
        problems.append(problem(config, message))
    members = {
        split: {name: tree.images_of(f"{part}{name}/") for name in tree.classes(part)}
        for split, part in parts.items()
    }
    return _published(members, parts, problems, config)


def _by_groups(tree: Tree, config: DataConfig) -> tuple[Listing, list[Problem]]:
    groups = sorted(tree.folders[""])
    problems = []
    mixed = sorted(name for name in groups if f"{name}/" in tree.has_images)
    if mixed:
        others = sorted(set(groups) - set(mixed))
        message = (
            f"{few(mixed)} have images and {few(others)} do not: a folder is a class or a group of "
            "classes, all of them the same; move what is neither away"
        )
        problems.append(problem(config, message))
    members = {
        f"{group}/{name}": tree.images_of(f"{group}/{name}/")
        for group in groups
        for name in tree.classes(f"{group}/")
    }
    return _listed(members, problems, config, grouped=True)


# --- splits that somebody has published ---------------------------------------------------------


def _by_tables(
    tree: Tree, tables: Mapping[str, str], files: Files, config: DataConfig
) -> tuple[Listing, list[Problem]]:
    missing = [f"{_VALID[0] if s == 'valid' else s}.csv" for s in SPLITS if s not in tables]
    if missing:
        message = (
            f"has {few(tables.values())} and no {few(missing)}; class splits of its own are three "
            "tables: add what is missing, or move the others away"
        )
        raise InputError([problem(config, message)])
    problems: list[Problem] = []
    by_name = {entry.name.rpartition("/")[2]: entry for entry in tree.images_of(_IMAGES)}
    members = {}
    for split, name in tables.items():
        rows = _read(files, tree.beside[name], problems, config)
        members[split] = _members(tree, rows, name, by_name, problems, config)
    return _published(members, tables, problems, config)


def _read(
    files: Files, table: Entry, problems: list[Problem], config: DataConfig
) -> list[tuple[str, str]]:
    """Label and file name of each row; the name is empty where there is none."""
    try:
        with files.open(table) as file:
            reader = csv.DictReader(io.TextIOWrapper(file, "utf-8-sig", newline=""))
            if "label" in (reader.fieldnames or ()):
                rows = [(row["label"], row.get("filename") or "") for row in reader]
                return [(label, name) for label, name in rows if label]
        message = f"{table.name} has no column called label; write it as the first row"
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        message = f"cannot read {table.name} ({error}); repair it"
    problems.append(problem(config, message))
    return []


def _members(
    tree: Tree,
    rows: Sequence[tuple[str, str]],
    table: str,
    by_name: Mapping[str, Entry],
    problems: list[Problem],
    config: DataConfig,
) -> _Members:
    """Images of each class that a table names."""
    members: _Members = {}
    lost: list[Problem] = []
    for label, name in rows:
        inside = [f"{place}{label}/" for place in ("", _IMAGES)]
        folder = next((f for f in inside if f in tree.images), None)
        if folder is not None:
            if label not in members:
                members[label] = tree.images_of(folder)
        elif name in by_name:
            members.setdefault(label, []).append(by_name[name])
        else:
            message = f"{table} names {name or label}, and neither a folder {label} nor an image "
            lost.append(problem(config, f"{message}{_IMAGES}{name} is there; add what is missing"))
    problems += shortened(lost, config)
    return members


def _published(
    members: Mapping[str, _Members],
    told: Mapping[str, str],
    problems: list[Problem],
    config: DataConfig,
) -> tuple[Listing, list[Problem]]:
    """
    Args:
        members: by split.
        told: what a message calls each split.
    """
    shared = []
    for first, second in combinations(SPLITS, 2):
        both = sorted(set(members[first]) & set(members[second]))
        if both:
            message = (
                f"{told[first]} and {told[second]} share {len(both)} classes: {few(both)}; a class "
                "belongs to one split alone"
            )
            shared.append(problem(config, message))
    empty = [told[split] for split in SPLITS if not members[split]]
    if empty:
        shared.append(problem(config, f"{few(empty)} names no class; each split needs some"))
    whole = {name: entries for split in SPLITS for name, entries in members[split].items()}
    listing, problems = _listed(whole, [*problems, *shared], config)
    if shared:
        return listing, problems
    label = {name: number for number, name in enumerate(listing.classes)}
    splits = (tuple(sorted(label[n] for n in members[s] if n in label)) for s in SPLITS)
    return Listing(
        listing.entries, listing.labels, listing.classes, 0, class_splits=ClassSplits(*splits)
    ), problems


def _listed(
    members: _Members, problems: list[Problem], config: DataConfig, *, grouped: bool = False
) -> tuple[Listing, list[Problem]]:
    problems += [without_images(name, config) for name, entries in members.items() if not entries]
    entries = [entry for own in members.values() for entry in own]
    names = [name for name, own in members.items() for _ in own]
    problems = check_names(entries, problems, config)
    listing = Listing.of(entries, names)
    if not grouped:
        return listing, problems
    groups = tuple(name.partition("/")[0] for name in listing.classes)
    return Listing(listing.entries, listing.labels, listing.classes, 0, groups), problems
