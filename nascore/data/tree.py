"""Tree of folders and files of a data set: images, tables, and files that are left out."""

import logging
import time
from collections.abc import Iterator

from nascore.config import DataConfig
from nascore.data.endings import ending, image_endings, is_image, is_of_tool, is_text
from nascore.data.file_access import BROKEN_LINK, LINK, FileEntry, Files
from nascore.data.findings import Findings, Tally, finding
from nascore.data.parallel import LOG_EVERY_S, in_threads
from nascore.data.pixels import has_image_signature

_log = logging.getLogger(__name__)
_TABLES = frozenset({".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".txt", ".tab"})


class Folder:
    """A folder below the root, without files of tools.

    Attributes:
        path: ends with a slash; empty for the root.
        images, tables: files in it, sorted by name once the tree is complete.
        left_out: files in it that are no images and no descriptions either.
        num_below: images in it and in all folders below it.
        num_left_out: left out files in it and in all folders below it.
    """

    __slots__ = ("folders", "images", "left_out", "num_below", "num_left_out", "path", "tables")

    def __init__(self, path: str) -> None:
        self.path = path
        self.folders: dict[str, Folder] = {}
        self.images: list[FileEntry] = []
        self.tables: list[FileEntry] = []
        self.left_out: list[FileEntry] = []
        self.num_below = self.num_left_out = 0

    @property
    def name(self) -> str:
        """Last part of its path."""
        return self.path[:-1].rpartition("/")[2]

    @property
    def bearing(self) -> list["Folder"]:
        """Folders in it that contain images at any depth, by name."""
        return [f for _, f in sorted(self.folders.items()) if f.num_below]

    def walk(self) -> Iterator["Folder"]:
        """Yield this folder and all below."""
        waiting = [self]
        while waiting:
            folder = waiting.pop()
            yield folder
            waiting += folder.folders.values()

    def all_images(self) -> list[FileEntry]:
        """Return the images in it and below, by name."""
        return sorted(entry for folder in self.walk() for entry in folder.images)

    def all_left_out(self) -> list[FileEntry]:
        """Return the files in it and below that are left out, by name."""
        return sorted(entry for folder in self.walk() for entry in folder.left_out)


class Tree:
    """All files below a root, read once.

    Attributes:
        root: the outermost folder.
        tool_files: files that tools have created.
    """

    def __init__(self, files: Files, config: DataConfig, findings: Findings) -> None:
        self.root = Folder("")
        self.tool_files = Tally()
        self._files, self._config = files, config
        self._folders: dict[str, Folder | None] = {"": self.root}
        self._undecided: list[FileEntry] = []
        self._faults: dict[str, Tally] = {}
        self._bad_names = Tally()
        self._fill()
        self._decide()
        for folder in self.root.walk():
            folder.images.sort()
            folder.tables.sort()
        self._report(findings)

    def _fill(self) -> None:
        logged, count = time.monotonic(), 0
        for count, entry in enumerate(self._files.entries(), start=1):
            self._add(entry)
            if count % 4096 == 0 and time.monotonic() - logged > LOG_EVERY_S:
                logged = time.monotonic()
                _log.info("%s: %s files listed", self._files.root, f"{count:,}")

    def _add(self, entry: FileEntry) -> None:
        parent_name, _, last = entry.name.rpartition("/")
        if not last:  # a folder that would otherwise not be seen
            self._folder(parent_name)
            return
        parent = self._folder(parent_name)
        if parent is None or is_of_tool(last):
            self.tool_files.add(entry.name)
        elif entry.fault:
            self._faults.setdefault(entry.fault, Tally()).add(entry.name)
        elif is_image(last):
            self._add_image(parent, entry)
        elif is_text(last):
            if ending(last) in _TABLES:
                parent.tables.append(entry)
        else:
            self._undecided.append(entry)

    def _add_image(self, parent: Folder, entry: FileEntry) -> None:
        if not _is_utf8(entry.name):
            self._bad_names.add(entry.name)
            return
        parent.images.append(entry)
        self._count(parent, "num_below")

    def _count(self, folder: Folder, attribute: str) -> None:
        path = folder.path[:-1]
        while True:
            setattr(folder, attribute, getattr(folder, attribute) + 1)
            if not path:
                return
            path = path.rpartition("/")[0]
            above = self._folders[path]
            assert above is not None
            folder = above

    def _folder(self, path: str) -> Folder | None:
        """Return the folder of a path without final slash; None when it belongs to a tool."""
        if path in self._folders:
            return self._folders[path]
        above_path, _, name = path.rpartition("/")
        above = self._folder(above_path)
        made = None
        if above is not None and not is_of_tool(name, is_folder=True):
            made = above.folders[name] = Folder(f"{path}/")
        self._folders[path] = made
        return made

    def _decide(self) -> None:
        """Read the first bytes of files whose ending has no meaning: they may be images."""
        asked = [entry for entry in self._undecided if _says_nothing(ending(entry.name))]
        answers = in_threads(self._is_image, asked, threads=self._files.num_threads)
        images = {entry.name for entry, yes in zip(asked, answers, strict=True) if yes}
        for entry in self._undecided:
            parent = self._folder(entry.name.rpartition("/")[0])
            assert parent is not None
            if entry.name in images:
                self._add_image(parent, entry)
            else:
                parent.left_out.append(entry)
                self._count(parent, "num_left_out")
        self._undecided = []

    def _is_image(self, entry: FileEntry) -> bool:
        try:
            with self._files.open(entry) as file:
                return has_image_signature(file)
        except OSError:
            return False  # it is reported as a file that is left out

    def _report(self, findings: Findings) -> None:
        def add(kind: str, message: str, tally: Tally) -> None:
            made = finding(self._config, kind, message, tally.examples, count=tally.count)
            (findings.problems if kind in _PROBLEMS else findings.warnings).append(made)

        if self.tool_files.count:
            message = "{count} hidden files or files of tools were left out: {examples}"
            add("skipped-files", message, self.tool_files)
        for fault, tally in self._faults.items():
            add(*_FAULTS.get(fault, _SPECIAL), tally)
        if self._bad_names.count:
            message = "{count} names are not UTF-8: {examples}; rename the files"
            add("unreadable-name", message, self._bad_names)


_PROBLEMS = (BROKEN_LINK, "unreadable-name")
_FAULTS = {
    BROKEN_LINK: (
        BROKEN_LINK,
        "{count} links lead nowhere or to themselves: {examples}; repair or remove them",
    ),
    LINK: ("skipped-files", "{count} links to folders lie too deep and were left out: {examples}"),
}
_SPECIAL = ("skipped-files", "{count} files are no ordinary files and were left out: {examples}")


def _is_utf8(name: str) -> bool:
    """Return whether a name is UTF-8; other bytes of a local name are lone surrogates."""
    return name.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in name)


def _says_nothing(given: str) -> bool:
    """Return whether an ending has no meaning: `7`, `.jpg_large`, `.JPG~`; those of camera raw
    files have one.
    """
    usual = given[1:].isalnum() and not given[1:].isdigit() and len(given) <= _LONGEST_ENDING
    return not usual and given not in image_endings()


_LONGEST_ENDING = 6
