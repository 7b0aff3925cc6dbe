"""Recognition of a table's columns: files, labels, splits and groups."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from nascore.config import DataConfig
from nascore.data.split_names import split_of
from nascore.data.tables import Table
from nascore.errors import InputError

_FILE = (
    *("filename", "file", "filepath", "path", "imagepath", "imgpath", "imagefile", "imagename"),
    *("image", "img", "imageid", "imgid", "id", "name", "idcode", "key", "uuid"),
)
_LABEL = (
    *("label", "labels", "class", "classname", "classlabel", "target", "category", "labelname"),
    *("classid", "labelid", "categoryid", "targetid"),
)
# Names that mean something else as well.
_LABEL_ELSE = ("y", "groundtruth", "breed", "species", "diagnosis")
# What a lone column of such a name holds is no class.
_NO_LABEL = frozenset(
    {
        *("tags", "keywords", "attributes", "caption", "captions", "text", "description", "title"),
        *("objects", "bbox", "bboxes", "boxes", "segmentation", "url", "size", "width", "height"),
    }
)
_SPLIT = ("split", "set", "subset", "partition", "usage")
# Columns of true and false, as fastai writes them: the split of those that are true.
_SPLIT_IF = {
    **{name: "valid" for name in ("isvalid", "isval", "isvalidation")},
    **{name: "test" for name in ("istest", "istesting")},
}
_GROUP = frozenset(
    f"{what}{suffix}"
    for what in ("patient", "subject", "person", "video", "sequence", "scene", "group", "case")
    for suffix in ("", "s", "id", "no", "nr", "number", "name")
)
_FOLD = ("fold", "kfold", "cvfold")
_IS_TRUE = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_SAMPLE = 200
_TRUTHS = {"0": False, "1": True, "0.0": False, "1.0": True}


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of the columns that are used.

    Attributes:
        label: column of the labels; None where there is one column a class.
        one_hot: the columns of the classes, which hold 0 and 1.
    """

    file: str
    label: str | None
    one_hot: tuple[str, ...] = ()
    split: str | None = None
    group: str | None = None

    def split_of(self, cell: str) -> str | None:
        """Return the split of a cell of the split column; None where it names none."""
        meant = _SPLIT_IF.get(_plain(self.split or ""))
        if meant is None or cell.lower() not in _IS_TRUE:
            return split_of(cell)
        return meant if _IS_TRUE[cell.lower()] else "train"


def find_columns(
    table: Table, is_file: Callable[[str], bool], config: DataConfig, *, guess: bool = True
) -> Columns | str | None:
    """Return the columns; why there are no labels; or None where no column names files.

    Args:
        is_file: whether a cell names an image.
        guess: use the only other column, or several of 0 and 1, as labels, whatever their names.

    Raises:
        InputError: The table lacks a column that the configuration names.
    """
    file = _given(table, config.file_column, "data.file_column")
    file = file or _file_column(table, is_file)
    if file is None:
        return None
    split = _given(table, config.split_column, "data.split_column") or _split_column(table)
    group = _given(table, config.group, "data.group")
    rest = [name for name in table.columns if name not in (file, split, group)]
    label = _given(table, config.label_column, "data.label_column")
    if label is None:
        known = [name for word in _LABEL for name in rest if _plain(name) == word]
        if any(not _mean_the_same(table, known[0], other) for other in known[1:]):
            return (
                f"{table.name} has several columns of labels, {', '.join(known)}, that do not mean "
                "the same; set data.label_column to the right one"
            )
        label = known[0] if known else _named(rest, _LABEL_ELSE)
    if label is None and guess:
        rest = [name for name in rest if not _is_index(table.columns[name])]
        # A lone column of 0 and 1 with a name may say anything of an image.
        has_classes = not is_one_hot(table, rest) or rest == [_numbered(2)]
        is_label = len(rest) == 1 and _plain(rest[0]) not in (*_NO_LABEL, *_SPLIT, *_FOLD)
        if is_label and has_classes:
            label = rest[0]
    if label is not None:
        return Columns(file, label, split=split, group=group)
    if guess and len(rest) > 1 and is_one_hot(table, rest):
        return Columns(file, None, tuple(rest), split, group)
    if not rest:
        return f"{table.name} has no column of labels"
    return (
        f"none of the columns of {table.name} is known as that of the labels; set "
        f"data.label_column to one of {', '.join(rest[:8])}"
    )


def possible_groups(table: Table) -> list[str]:
    """Return columns whose names suggest groups of images and whose values repeat."""
    return [
        name
        for name, cells in table.columns.items()
        if _plain(name) in _GROUP and 1 < len(set(cells)) < len(cells)
    ]


def splits_without_names(table: Table) -> list[str]:
    """Return columns whose names suggest splits and whose cells name none."""
    return [
        name
        for name, cells in table.columns.items()
        if _plain(name) in (*_SPLIT, *_FOLD) and 1 < len(set(cells)) < len(cells)
    ]


def share_of_files(table: Table, is_file: Callable[[str], bool]) -> float:
    """Return the fraction of rows that name an image, in the column that names most."""
    return max((_share(cells, is_file) for cells in table.columns.values()), default=0.0)


def is_known_by_name(columns: Columns) -> bool:
    """Return whether the names of both columns are those of files and labels."""
    return _plain(columns.file) in _FILE and _plain(columns.label or "") in (*_LABEL, *_LABEL_ELSE)


def with_header(table: Table, is_file: Callable[[str], bool]) -> Table:
    """Return the table, with numbered columns where its first row is data already."""
    if not any(is_file(name) for name in table.columns):
        return table
    columns = {
        _numbered(number): [name, *cells]
        for number, (name, cells) in enumerate(table.columns.items(), start=1)
    }
    return Table(table.name, columns)


def _numbered(number: int) -> str:
    """Return the name of a column of a table without a header."""
    return f"column {number}"


def names_no_files(table: Table, find: Callable[[str], Sequence[object]]) -> str:
    """Return why a table with columns of images and labels does not count; empty for any other.

    Args:
        find: the images that a cell may name.
    """
    columns = find_columns(table, lambda cell: len(find(cell)) == 1, DataConfig(), guess=False)
    if not isinstance(columns, Columns) or not is_known_by_name(columns) or not table.num_rows:
        return ""
    cells = table.columns[columns.file]
    several = next((cell for cell in cells if len(find(cell)) > 1), None)
    if several is not None:
        return (
            f"{table.name} has names in its column {columns.file!r} that are those of several "
            f"files, such as {several!r}; write their paths and endings"
        )
    return (
        f"{table.name} names {len(cells):,} files in its column {columns.file!r}, such as "
        f"{cells[0]!r}, and few or none of them are there; correct its paths"
    )


def is_one_hot(table: Table, names: Iterable[str]) -> bool:
    """Return whether all these columns contain only 0 and 1."""
    return all(set(table.columns[name]) <= _TRUTHS.keys() for name in names)


def one_hot_labels(table: Table, names: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the classes of each row; more than one, or none, where the columns are no classes."""
    rows = zip(*(table.columns[name] for name in names), strict=True)
    return [
        tuple(name for name, cell in zip(names, row, strict=True) if _TRUTHS[cell]) for row in rows
    ]


def _given(table: Table, name: str | None, key: str) -> str | None:
    if name is None or name in table.columns:
        return name
    message = f"{table.name} has no such column; it has {', '.join(list(table.columns)[:12])}"
    raise InputError.of(key, name, message)


def _file_column(table: Table, is_file: Callable[[str], bool]) -> str | None:
    known = [name for word in _FILE for name in table.columns if _plain(name) == word]
    others = [name for name in table.columns if name not in known]
    shares = {name: _share(table.columns[name], is_file) for name in [*known, *others]}
    # The one that names most files; of equal ones, that with the name of a file column.
    best = max(shares, key=lambda name: shares[name], default=None)
    if best is not None and shares[best] > 0:
        return best
    return known[0] if known and known[0] in table.columns else None


def _share(cells: Sequence[str], is_file: Callable[[str], bool]) -> float:
    step = max(1, len(cells) // _SAMPLE)
    sample = cells[::step]
    return sum(map(is_file, sample)) / len(sample) if sample else 0.0


def _split_column(table: Table) -> str | None:
    """Return a column with the name of splits, some of whose cells are splits, or any with nothing
    else.

    Rows whose split is none are reported.
    """
    for name, cells in table.columns.items():
        values = set(cells)
        splits = {split_of(cell) for cell in values}
        if _plain(name) in _SPLIT and splits - {None}:
            return name
        if "train" in splits and None not in splits and len(splits) > 1:
            return name
        if _plain(name) in _SPLIT_IF and {value.lower() for value in values} <= _IS_TRUE.keys():
            return name
    return None


def _mean_the_same(table: Table, one: str, other: str) -> bool:
    """Return whether the values of two columns correspond one to one."""
    pairs = set(zip(table.columns[one], table.columns[other], strict=True))
    return len(pairs) == len({first for first, _ in pairs}) == len({second for _, second in pairs})


def _named(names: Sequence[str], known: Sequence[str]) -> str | None:
    return next((name for word in known for name in names if _plain(name) == word), None)


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).lower()


def _is_index(cells: Sequence[str]) -> bool:
    """Return whether a column only counts rows, as pandas writes it."""
    return all(cell == str(number) for number, cell in enumerate(cells)) and len(cells) > 1
