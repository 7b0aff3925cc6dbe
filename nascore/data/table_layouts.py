"""Labels in tables next to the images, as Kaggle, Roboflow and Hugging Face write them.

One table for all images, one for each split (`train.csv`, `test.csv`), or one in the folder of each
split (`train/metadata.csv`, `train/_classes.csv`). A table is used when it names images and their
labels; where folders name classes as well, both must agree.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from nascore.config import FOLDERS, DataConfig
from nascore.data.columns import (
    Columns,
    find_columns,
    is_known_by_name,
    names_no_files,
    share_of_files,
    with_header,
)
from nascore.data.file_access import FileEntry, Files
from nascore.data.file_index import FileIndex
from nascore.data.findings import Finding, Findings, finding, join_first, refusal
from nascore.data.listing import Listing
from nascore.data.split_names import is_neutral, name_words, split_of, split_of_table
from nascore.data.table_rows import LabelTable, list_rows
from nascore.data.tables import READABLE, Table, TableError, read_table
from nascore.data.tree import Folder, Tree
from nascore.errors import InputError

KEY = "data.labels"
_LEAST_SHARE = 0.5  # of the rows must name images, or the table is about something else


def list_by_table(
    tree: Tree,
    files: Files,
    config: DataConfig,
    findings: Findings,
    *,
    has_classes: bool,
    has_splits: bool,
) -> Listing | None:
    """Return images and labels by tables; None where no table counts.

    Args:
        has_classes, has_splits: whether the folders name classes and splits, too.

    Raises:
        InputError: A named table cannot be used, or it is unclear which one counts.
    """
    unlabelled: set[str] = set()
    unused: list[Finding] = []
    if config.labels is not None:
        tables = [_named_table(tree, files, config, config.labels)]
    else:
        usable = _usable_tables(tree, files, config, unused, unlabelled, has_classes=has_classes)
        tables = _chosen(list(usable), config)
        # Where nothing else gives the labels, a table that does not is what is wrong.
        target = findings.warnings if tables or has_classes else findings.problems
        target.extend(unused)
        if has_classes and not has_splits:
            findings.warnings += _lists_of_splits(tree, config)
        agree = has_classes and _agree(tables)
        if (
            agree
            and config.group is None
            and not any(_adds_more(one, has_splits=has_splits) for one in tables)
        ):
            return None
        if has_classes and tables and not agree:
            message = (
                f"{join_first(one.table.name for one in tables)} and the folders give different "
                f"classes; set data.labels to that table, or to {FOLDERS}"
            )
            raise refusal(config, "layout", message)
    if config.group is not None:
        _check_group(tables, config.group)
    return list_rows(tree, tables, config, findings, unlabelled) if tables else None


def _named_table(tree: Tree, files: Files, config: DataConfig, name: str) -> LabelTable:
    """Return the table that `data.labels` names, in the source or on this machine."""
    if not name.lower().endswith(READABLE):
        message = f"is no table that can be read; write it as {', '.join(READABLE[:3])} or another"
        raise InputError.of(KEY, name, f"{message} of {', '.join(READABLE[3:])}")
    inside = [
        entry
        for folder in tree.root.walk()
        for entry in folder.tables
        if entry.name == name or entry.name.endswith(f"/{name}")
    ]
    exact = [entry for entry in inside if entry.name == name]
    found = exact or inside
    path = Path(name).expanduser()
    try:
        if len(found) == 1:
            with files.open(found[0]) as file:
                content = file.read()
            folder = found[0].name.rpartition("/")[0]
            base = f"{folder}/" if folder else ""
        elif found:
            message = (
                f"is the name of {join_first(entry.name for entry in found)}; give the whole path"
            )
            raise InputError.of(KEY, name, message)
        elif path.is_file():
            content, base = path.read_bytes(), ""
        else:
            message = "there is no such table in the source or on this machine; correct the path"
            raise InputError.of(KEY, name, message)
        table = read_table(name, content)
    except (TableError, OSError) as error:
        raise InputError.of(KEY, name, str(error)) from error
    index = FileIndex(tree.root.all_images(), base)
    table = with_header(table, index.has)
    columns = find_columns(table, index.has, config)
    if columns is None:
        message = (
            f"no column names the image files; it has {', '.join(list(table.columns)[:12])} (set "
            "data.file_column)"
        )
        raise InputError.of(KEY, name, message)
    if isinstance(columns, str):
        raise InputError.of(KEY, name, columns)
    return LabelTable(table, columns, index, base)


# --- found by themselves --------------------------------------------------------------------


def _usable_tables(
    tree: Tree,
    files: Files,
    config: DataConfig,
    unused: list[Finding],
    unlabelled: set[str],
    *,
    has_classes: bool,
) -> Iterator[LabelTable]:
    """Yield the tables that name images and labels.

    Args:
        unused: collects findings about tables without labels and unreadable ones.
        unlabelled: collects images that a table of test images names without labels (Kaggle).
    """
    images: list[FileEntry] | None = None
    for folder, split in _places(tree.root):
        index = None
        for entry in folder.tables:
            if entry.name.lower().endswith(".txt") or "submission" in name_words(entry.name):
                continue
            images = images if images is not None else tree.root.all_images()
            stem = entry.name.rpartition("/")[2].rpartition(".")[0]
            meant = split or split_of_table(stem)
            index = (index or FileIndex(images, folder.path)).of_split(meant)
            try:
                with files.open(entry) as file:
                    table = with_header(read_table(entry.name, file.read()), index.has)
            except (TableError, OSError) as error:
                unused.append(_not_used(entry, f"{entry.name} {error}", config))
                continue
            columns = _columns(table, index, config, has_classes=has_classes)
            if isinstance(columns, Columns):
                yield LabelTable(table, columns, index, folder.path, meant)
            elif columns is None and not has_classes:
                why = names_no_files(table, index.find)
                unused.extend([_not_used(entry, why, config)] if why else [])
            elif columns is not None:
                if split_of_table(stem) == "test":
                    unlabelled |= index.all_of(table)
                unused.append(_not_used(entry, columns, config))


def _lists_of_splits(tree: Tree, config: DataConfig) -> list[Finding]:
    """Return a warning for text files such as `train.txt` next to class folders."""
    names = {
        entry.name
        for folder, _ in _places(tree.root)
        for entry in folder.tables
        if entry.name.lower().endswith(".txt")
        and {split_of(word) for word in name_words(entry.name.rpartition("/")[2])} - {None}
    }
    if not names:
        return []
    message = (
        "{examples} may hold splits, and lists are not read: images are split by seed; write a "
        "table with the columns file, label and split where the splits matter"
    )
    return [finding(config, "table-not-used", message, sorted(names))]


def _not_used(entry: FileEntry, why: str, config: DataConfig) -> Finding:
    return finding(config, "table-not-used", f"{why}; it is not used", [entry.name])


def _columns(
    table: Table, index: FileIndex, config: DataConfig, *, has_classes: bool
) -> Columns | str | None:
    """Return the columns of a table about these images; None for any other.

    Where folders name classes, only a column with the name of labels counts: the table may be about
        sizes.
    """
    plain = config.model_copy(update={"group": None} if config.group not in table.columns else {})
    columns = find_columns(table, index.has, plain, guess=not has_classes)
    share = share_of_files(table, index.has)
    is_named = isinstance(columns, Columns) and is_known_by_name(columns) and not has_classes
    return columns if share >= _LEAST_SHARE or (share > 0 and is_named) else None


def _places(root: Folder) -> Iterator[tuple[Folder, str | None]]:
    """Yield the folders that may have tables: down to that of the images or splits."""
    folder = root
    while True:
        yield folder, None
        bearing = folder.bearing
        splits = [inner for inner in bearing if split_of(inner.name)]
        for inner in splits:
            yield from ((each, split_of(inner.name)) for each in _with_tables(inner))
        if len(bearing) != 1 or splits:
            return
        folder = bearing[0]


def _with_tables(folder: Folder) -> Iterator[Folder]:
    """Yield a split's folder and those in it that are no classes, where they have tables and
    images.
    """
    inner = [f for f in folder.folders.values() if is_neutral(f.name) or split_of(f.name)]
    for each in (folder, *inner):
        if each.tables and each.num_below:
            yield each


def _chosen(tables: Sequence[LabelTable], config: DataConfig) -> list[LabelTable]:
    """Return one table, or one for each split."""
    if len(tables) < 2:
        return list(tables)
    splits = [one.split for one in tables]
    if None not in splits and len(set(splits)) == len(splits):
        return list(tables)
    own = [one for one in tables if one.split is not None]
    if "train" in [one.split for one in own] and len({one.split for one in own}) == len(own) > 1:
        return own  # as GTSRB has one of pictograms next to train and test
    outer = [one for one in tables if one.split is None]
    if len(outer) == 1 and len({one.folder for one in tables}) == 1:
        return outer
    names = join_first(one.table.name for one in tables)
    message = f"has several tables of labels: {names}; set data.labels to the one that counts"
    raise refusal(config, "layout", message)


def _adds_more(one: LabelTable, *, has_splits: bool) -> bool:
    """Return whether a table has splits or groups that the folders do not have."""
    tells_splits = one.columns.split is not None or one.split is not None
    return one.columns.group is not None or (tells_splits and not has_splits)


def _check_group(tables: Sequence[LabelTable], group: str) -> None:
    lacking = [one.table for one in tables if one.columns.group is None]
    if not tables:
        message = "needs a table of labels with that column (data.labels), and there is none"
    elif lacking:
        known = ", ".join(list(lacking[0].columns)[:12])
        message = f"{lacking[0].name} has no such column; it has {known}"
    else:
        return
    raise InputError.of("data.group", group, message)


def _agree(tables: Sequence[LabelTable]) -> bool:
    """Return whether each label of the tables names a folder that its image is in."""
    for one in tables:
        if one.columns.label is None:
            return False
        labels = one.table.columns[one.columns.label]
        for cell, label in zip(one.table.columns[one.columns.file], labels, strict=True):
            found = one.index.find(cell)
            if len(found) == 1 and label not in found[0].name.split("/")[:-1]:
                return False
    return True
