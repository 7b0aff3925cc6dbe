"""The objects that hold the contents of a step's state, and the removal of those without use.

Every object has a name of its own, so that a removal, however late it arrives at the store, never
hits one that was written since. The name holds the generation of the manifest under which it was
written: a sweep leaves those of later generations, which belong to another pod, unchanged.
"""

import itertools
import logging
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from components.object_store.client import Store
from components.object_store.objects import list_objects
from components.object_store.writing import abort_uploads, remove, upload
from components.run_state.manifest import FILES, StoredFile, generation_of
from components.run_state.snapshot import FileChanged, Snapshot, Stamps, Taken, is_unchanged
from nascore.errors import InputError
from nascore.files import sha256_of

_log = logging.getLogger(__name__)
THREADS = 4  # files at a time; the parts of a large one are sent at a time, too


@dataclass(frozen=True, slots=True)
class Content:
    """The content of a file that was read, and the stamps that the file had."""

    stamps: Stamps
    sha256: str
    size: int


class Contents:
    """The objects below `files/`.

    Args:
        uri: of the step's state.
        generation: of the manifest under which new ones are written.
        named: the files of that manifest.
        known: files whose contents were read before, by their paths.
    """

    def __init__(
        self,
        uri: str,
        *,
        generation: int,
        named: Iterable[StoredFile],
        known: Mapping[str, Content],
        store: Store,
    ) -> None:
        self._prefix, self._generation, self._store = f"{uri}/{FILES}/", generation, store
        self._objects = {file.sha256: file.object for file in named}
        self._known = dict(known)
        self._serial = itertools.count(1)
        self._garbage: set[str] = set()
        self._is_swept = False

    @property
    def known(self) -> dict[str, Stamps]:
        return {path: content.stamps for path, content in self._known.items()}

    def send(self, snapshot: Snapshot) -> tuple[tuple[StoredFile, ...], list[int]]:
        """Upload what the store does not have.

        Returns:
            All files as the next manifest names them, and the sizes of those that were sent.

        Raises:
            FileChanged: a file was written while it was read.
            InputError: the store is unreachable or refuses access.
        """
        with ThreadPoolExecutor(THREADS) as pool:
            contents = list(pool.map(self._read, snapshot.files))
        pairs = list(zip(snapshot.files, contents, strict=True))
        new = {one.sha256: (item, one) for item, one in pairs if one.sha256 not in self._objects}
        with ThreadPoolExecutor(THREADS) as pool:
            sizes = list(pool.map(lambda pair: self._upload(*pair), new.values()))
        self._known = {item.path: one for item, one in pairs if item.is_settled}
        files = tuple(
            StoredFile(item.path, self._objects[one.sha256], one.sha256, one.size, item.mode)
            for item, one in pairs
        )
        return files, sizes

    def _read(self, item: Taken) -> Content:
        if item.source is None:
            return self._known[item.path]
        return Content(item.stamps, sha256_of(item.source), item.source.stat().st_size)

    def _upload(self, item: Taken, content: Content) -> int:
        """Raises FileChanged: what was sent may not be what was hashed."""
        assert item.source is not None
        name = f"{content.sha256}.{self._generation}.{next(self._serial)}"
        upload(item.source, self._prefix + name, digest=content.sha256, store=self._store)
        is_same = is_unchanged(item) and (
            item.is_settled or sha256_of(item.source) == content.sha256
        )
        if not is_same:
            self._garbage.add(name)
            raise FileChanged(item.path)
        self._objects[content.sha256] = name  # also where the push fails: it is not sent again
        return content.size

    def keep_only(self, files: Iterable[StoredFile]) -> None:
        """Note that the manifest has been replaced by one with these files."""
        kept = {file.sha256: file.object for file in files}
        self._garbage |= set(self._objects.values()) - set(kept.values())
        self._objects = kept

    def remove_garbage(self) -> None:
        """Remove what no manifest names; what fails is left for the next time."""
        try:
            if not self._is_swept:
                self._is_swept = True
                self._sweep()
            garbage = sorted(self._garbage)
            with ThreadPoolExecutor(THREADS) as pool:
                for name, _ in zip(garbage, pool.map(self._remove, garbage), strict=True):
                    self._garbage.discard(name)
        except InputError as error:  # the state is saved all the same
            _log.warning("objects that are not needed any more are left: %s", error)

    def _remove(self, name: str) -> None:
        remove(self._prefix + name, store=self._store)

    def _sweep(self) -> None:
        """Find what processes before this one left when they were killed."""
        needed = set(self._objects.values())
        for item in list_objects(self._prefix, store=self._store):
            name = item.key.rpartition("/")[2]
            if self._is_old(name) and name not in needed:
                self._garbage.add(name)
        abort_uploads(
            self._prefix,
            is_abandoned=lambda uri: self._is_old(uri.removeprefix(self._prefix)),
            store=self._store,
        )

    def _is_old(self, name: str) -> bool:
        """Return whether it is of this process or one before it, not of one that took over."""
        generation = generation_of(name)
        return generation is not None and generation <= self._generation
