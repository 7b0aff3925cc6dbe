"""Search for the image file that a cell of a table names."""

import copy
import unicodedata
from collections.abc import Sequence
from urllib.parse import unquote

from nascore.data.endings import image_endings
from nascore.data.file_access import FileEntry
from nascore.data.split_names import split_of
from nascore.data.tables import Table


class FileIndex:
    """Index of images by path, name, or name without ending.

    A path may be longer or shorter at its beginning than that of the file, since tables are written
    on other machines and in other folders. A path whose folders contradict those of the file does
    not match.

    Args:
        base: folder to which paths are relative, with a slash at its end; files elsewhere are found
            as well.
    """

    def __init__(self, entries: Sequence[FileEntry], base: str) -> None:
        self._entries, self._base = entries, base
        self._split: str | None = None
        self._by_name = {_composed(entry.name): entry for entry in entries}
        self._by_key: dict[str, list[FileEntry]] = {}
        for entry in entries:
            last = _composed(entry.name).rpartition("/")[2].casefold()
            for key in {last, _stem(last)}:
                self._by_key.setdefault(key, []).append(entry)

    def of_split(self, split: str | None) -> "FileIndex":
        """Return the index that prefers images in the folder of a split."""
        index = copy.copy(self)
        index._split = split
        return index

    def find(self, cell: str) -> Sequence[FileEntry]:
        """Return the images that a cell names: none where there is none, several where it is
        ambiguous.
        """
        path = _composed(cell.strip()).replace("\\", "/").removeprefix("file://")
        if "://" in path:
            path = unquote(path.partition("?")[0])
        while path.startswith("./"):
            path = path[2:]
        if not path or path.endswith("/"):
            return ()
        exact = self._by_name.get(self._base + path) or self._by_name.get(path)
        if exact is not None:
            return (exact,)
        found = [entry for entry in self._candidates(path) if self._fits(path, entry)]
        for narrowed in (
            self._with_case(path, found),
            self._below_base(found),
            self._in_split(found),
        ):
            if len(narrowed) == 1:
                return narrowed
        return found

    def has(self, cell: str) -> bool:
        """Return whether a cell names one image; a number may be the name of one in each class."""
        return len(self.find(cell)) == 1

    def all_of(self, table: Table) -> set[str]:
        """Return the names of all images that any cell of a table names."""
        cells = (cell for column in table.columns.values() for cell in column)
        return {found[0].name for cell in cells if len(found := self.find(cell)) == 1}

    def _candidates(self, path: str) -> Sequence[FileEntry]:
        return self._by_key.get(path.rpartition("/")[2].casefold(), ())

    def _fits(self, path: str, entry: FileEntry) -> bool:
        """Return whether one path is the end of the other, in any case and with any ending."""
        given = _parts(path)
        names = {_composed(entry.name), _composed(entry.name.removeprefix(self._base))}
        return any(_is_end(given, _parts(name)) for name in names)

    def _with_case(self, path: str, found: Sequence[FileEntry]) -> list[FileEntry]:
        last = path.rpartition("/")[2]
        names = [(entry, _composed(entry.name).rpartition("/")[2]) for entry in found]
        return [entry for entry, name in names if last in (name, _stem(name))]

    def _in_split(self, found: Sequence[FileEntry]) -> list[FileEntry]:
        if self._split is None:
            return []
        names = [(entry, entry.name.removeprefix(self._base)) for entry in found]
        return [entry for entry, name in names if split_of_folder(name) == self._split]

    def _below_base(self, found: Sequence[FileEntry]) -> list[FileEntry]:
        return [entry for entry in found if entry.name.startswith(self._base)]


def _composed(name: str) -> str:
    """Return a name with accented letters as one character: macOS writes them as two."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def split_of_folder(name: str) -> str | None:
    """Return the split that a folder of a path names."""
    splits = [split for part in name.split("/")[:-1] if (split := split_of(part))]
    return splits[0] if splits else None


def _is_end(one: list[str], other: list[str]) -> bool:
    shorter, longer = sorted((one, other), key=len)
    return longer[len(longer) - len(shorter) :] == shorter


def _parts(path: str) -> list[str]:
    *folders, last = path.casefold().split("/")
    return [*(part for part in folders if part), _stem(last)]


def _stem(name: str) -> str:
    """Return the name without the ending of an image; other dots belong to the name."""
    stem, dot, ending = name.rpartition(".")
    return stem if dot and stem and f".{ending.lower()}" in image_endings() else name
