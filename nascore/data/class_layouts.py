"""Layouts of folders and tables where each split has classes of its own.

| in the folder | splits |
| --- | --- |
| `train.csv`, `val.csv`, `test.csv` | those of the tables, as mini-ImageNet publishes them |
| `train/`, `val/`, `test/` with a folder a class | those of the folders |
| a folder a group, and in it a folder a class | of whole groups, drawn |
| a folder a class, also in `train/` and `test/` with the same classes | of classes, drawn |

The tables have a column `label`, and a row for each image or for each class. The images of a class
are those in the folder of that name, in the root or in `images/`. Without such a folder they are
those of the column `filename`, anywhere in `images/`.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

from nascore.config import FOLDERS, DataConfig
from nascore.data.class_splits import SPLITS, ClassSplits
from nascore.data.file_access import FileEntry, Files
from nascore.data.findings import Finding, Findings, finding, join_first, refusal
from nascore.data.layouts import list_layout
from nascore.data.listing import (
    Listing,
    check_class_names,
    check_names,
    report_left_out,
    without_images,
)
from nascore.data.raw_dataset import shortened
from nascore.data.recognition import recognise, unwrapped
from nascore.data.split_names import find_splits
from nascore.data.tables import TableError, read_table
from nascore.data.tree import Folder, Tree
from nascore.errors import InputError, Problem

_VALID = ("val", "valid")
_IMAGES = "images"

_Members = dict[str, list[FileEntry]]  # images of each class


def list_by_class(files: Files, config: DataConfig, findings: Findings) -> Listing:
    """Return images and their classes.

    Raises:
        InputError: There is nothing to read.
    """
    for key, given in (("data.labels", config.labels), ("data.group", config.group)):
        if given is not None and given != FOLDERS:
            message = "is for data that is split by images, not by classes; leave it out"
            raise InputError.of(key, given, message)
    tree = Tree(files, config, findings)
    base = _base(tree)
    tables = _split_tables(base)
    holders = [name for name, folder in base.folders.items() if not folder.images]
    parts = {
        split: base.folders[names[0]]
        for split, names in find_splits(holders).items()
        if len(names) == 1
    }
    if tables:
        listing = _by_tables(base, tables, files, config, findings)
    elif len(parts) == len(SPLITS):
        listing = _by_parts(base, parts, config, findings)
    elif holders and not parts:
        listing = _by_groups(base, config, findings)
    else:
        layout = recognise(tree.root, files.root, config)
        if isinstance(layout, Finding):
            raise InputError([*findings.problems, layout])
        listing = list_layout(tree, layout, config, findings)
        return Listing(listing.entries, listing.labels, listing.classes)
    by_class = {f"folder {folder.path}": [folder] for folder in tree.root.walk() if folder.left_out}
    report_left_out(tree, by_class, config, findings)
    return listing


def _base(tree: Tree) -> Folder:
    """Return the folder in which tables, splits, groups or classes begin."""
    base = tree.root
    while not _split_tables(base):
        only = base.bearing[0] if len(base.bearing) == 1 else None
        if base.images or only is None or unwrapped(base) is base:
            break
        if not any(folder.bearing for folder in only.bearing) and not _split_tables(only):
            break  # a single group of classes is a group
        base = only
    return base


def _split_tables(folder: Folder) -> dict[str, FileEntry]:
    """Return the tables next to the images by split."""
    names = {entry.name.rpartition("/")[2]: entry for entry in folder.tables}
    found = {}
    for split in SPLITS:
        for name in _VALID if split == "valid" else (split,):
            if f"{name}.csv" in names:
                found[split] = names[f"{name}.csv"]
    return found


def _by_parts(
    base: Folder, parts: Mapping[str, Folder], config: DataConfig, findings: Findings
) -> Listing:
    shown = {split: part.path for split, part in parts.items()}
    others = sorted(base.folders.keys() - {part.name for part in parts.values()})
    if others:
        parts_text, others_text = join_first(shown.values()), join_first(others)
        message = f"has folders next to {parts_text}: {others_text}; move them away"
        findings.problems.append(finding(config, "layout", message))
    members = {
        split: {name: folder.all_images() for name, folder in sorted(part.folders.items())}
        for split, part in parts.items()
    }
    return _published(members, shown, config, findings)


def _by_groups(base: Folder, config: DataConfig, findings: Findings) -> Listing:
    groups = sorted(base.folders)
    mixed = [name for name in groups if base.folders[name].images]
    if mixed:
        others = sorted(set(groups) - set(mixed))
        message = (
            f"{join_first(mixed)} have images and {join_first(others)} do not: a folder is a class "
            "or a group of classes, all of them the same; move what is neither away"
        )
        findings.problems.append(finding(config, "layout", message))
    members = {
        f"{group}/{name}": folder.all_images()
        for group in groups
        for name, folder in sorted(base.folders[group].folders.items())
    }
    return _listed(members, config, findings, grouped=True)


# --- published splits ---------------------------------------------------------


def _by_tables(
    base: Folder,
    tables: Mapping[str, FileEntry],
    files: Files,
    config: DataConfig,
    findings: Findings,
) -> Listing:
    shown = {split: entry.name.rpartition("/")[2] for split, entry in tables.items()}
    missing = [f"{_VALID[0] if s == 'valid' else s}.csv" for s in SPLITS if s not in tables]
    if missing:
        message = (
            f"has {join_first(shown.values())} and no {join_first(missing)}; class splits of its "
            "own are three tables: add what is missing, or move the others away"
        )
        raise refusal(config, "layout", message)
    images = base.folders.get(_IMAGES)
    by_name = {
        entry.name.rpartition("/")[2]: entry for entry in (images.all_images() if images else ())
    }
    members = {}
    for split, entry in tables.items():
        rows = _read(files, entry, findings.problems, config)
        members[split] = _members(base, rows, shown[split], by_name, findings.problems, config)
    return _published(members, shown, config, findings)


def _read(
    files: Files, table: FileEntry, problems: list[Problem], config: DataConfig
) -> list[tuple[str, str]]:
    """Return label and file name of each row; the name is empty where there is none."""
    try:
        with files.open(table) as file:
            columns = read_table(table.name, file.read()).columns
    except (OSError, TableError) as error:
        problems.append(finding(config, "table", f"cannot read {table.name}: it {error}"))
        return []
    if "label" not in columns:
        message = f"{table.name} has no column called label; write it as the first row"
        problems.append(finding(config, "table", message))
        return []
    labels = columns["label"]
    names = columns.get("filename", [""] * len(labels))
    return [(label, name) for label, name in zip(labels, names, strict=True) if label]


def _members(
    base: Folder,
    rows: Sequence[tuple[str, str]],
    table: str,
    by_name: Mapping[str, FileEntry],
    problems: list[Problem],
    config: DataConfig,
) -> _Members:
    """Return the images of each class that a table names."""
    members: _Members = {}
    lost: list[Problem] = []
    places = [base, *([base.folders[_IMAGES]] if _IMAGES in base.folders else [])]
    for label, name in rows:
        folder = next((f for p in places if (f := p.folders.get(label)) and f.num_below), None)
        if folder is not None:
            if label not in members:
                members[label] = folder.all_images()
        elif name in by_name:
            members.setdefault(label, []).append(by_name[name])
        else:
            message = f"{table} names {name or label}, and neither a folder {label} nor an image "
            text = f"{message}{_IMAGES}/{name} is there; add what is missing"
            lost.append(finding(config, "missing-files", text))
    problems += shortened(lost, config)
    return members


def _published(
    members: Mapping[str, _Members],
    shown: Mapping[str, str],
    config: DataConfig,
    findings: Findings,
) -> Listing:
    """Return the listing of splits that the source brings.

    Args:
        members: images of each class, by split.
        shown: name of each split in messages.
        config: settings of the data.
        findings: receives problems.
    """
    shared: list[Problem] = []
    for first, second in combinations(SPLITS, 2):
        both = sorted(set(members[first]) & set(members[second]))
        if both:
            message = (
                f"{shown[first]} and {shown[second]} share {len(both)} classes: "
                f"{join_first(both)}; a class belongs to one split alone"
            )
            shared.append(finding(config, "shared-class", message))
    empty = [shown[split] for split in SPLITS if not members[split]]
    if empty:
        message = f"{join_first(empty)} names no class; each split needs some"
        shared.append(finding(config, "empty-split", message))
    whole = {name: entries for split in SPLITS for name, entries in members[split].items()}
    findings.problems += shared
    listing = _listed(whole, config, findings)
    if shared:
        return listing
    label = {name: number for number, name in enumerate(listing.classes)}
    splits = (tuple(sorted(label[n] for n in members[s] if n in label)) for s in SPLITS)
    return Listing(
        listing.entries, listing.labels, listing.classes, class_splits=ClassSplits(*splits)
    )


def _listed(
    members: _Members, config: DataConfig, findings: Findings, *, grouped: bool = False
) -> Listing:
    findings.problems += [
        without_images(name, config) for name, entries in members.items() if not entries
    ]
    entries = [entry for own in members.values() for entry in own]
    names = [name for name, own in members.items() for _ in own]
    findings.problems = check_names(entries, findings.problems, config)
    findings.problems += check_class_names(names, config)
    listing = Listing.of(entries, names)
    if not grouped:
        return listing
    groups = tuple(name.partition("/")[0] for name in listing.classes)
    return Listing(listing.entries, listing.labels, listing.classes, groups=groups)
