"""The states of runs in an object store: objects below prefixes with a manifest."""

import itertools
import json
import logging
import socket
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from components.object_store.client import Store
from components.object_store.objects import StoredObject, fetch, list_objects
from components.object_store.writing import ObjectExists, abort_uploads, put_if_same, remove
from components.run_state.cleaning import InUse, Left, Size
from components.run_state.contents import THREADS
from components.run_state.manifest import FILES, MANIFEST, PROJECT, generation_of
from components.run_state.reference import KEY
from nascore.data.file_access import parse_s3
from nascore.errors import InputError

_log = logging.getLogger(__name__)


def bucket_states(root: str) -> Iterator["BucketState | Left"]:
    """Find `<root>/<run id>/<step>/manifest.json`, and what has none.

    Raises:
        InputError: the objects cannot be listed.
    """
    store = Store(key=KEY)
    prefix = f"{root.rstrip('/')}/"
    start = len(parse_s3(prefix)[1])
    listed = ((item.key[start:].split("/"), item) for item in list_objects(prefix, store=store))
    # Objects of one folder follow each other in a listing, so that one run at a time is held.
    for run_id, items in itertools.groupby(listed, key=lambda pair: pair[0][0]):
        yield from _group(prefix + run_id, run_id, items, store)


@dataclass(slots=True)
class _Step:
    """The listed objects of a step; `etag` is that of its manifest, empty without one."""

    etag: str = ""
    num_files: int = 0
    num_bytes: int = 0
    newest: float = 0.0

    def add(self, item: StoredObject) -> None:
        self.num_files += 1
        self.num_bytes += item.size
        self.newest = max(self.newest, item.modified)


def _group(
    uri: str, run_id: str, items: Iterable[tuple[list[str], StoredObject]], store: Store
) -> Iterator["BucketState | Left"]:
    steps: dict[str, _Step] = {}
    num_strangers = 0
    for (_, *path), item in items:
        if path[1:] == [MANIFEST]:
            steps.setdefault(path[0], _Step()).etag = item.etag
        elif len(path) != 3 or path[1] != FILES or generation_of(path[2]) is None:
            num_strangers += 1
            continue
        steps.setdefault(path[0], _Step()).add(item)
    if num_strangers:
        yield Left(run_id, f"{num_strangers} of its objects are no part of the state of a run")
    for name in [name for name, step in steps.items() if not step.etag]:
        yield Left(f"{run_id}/{name}", f"has no {MANIFEST}")
        del steps[name]
    if steps:
        yield BucketState(uri, run_id, steps, store)


class BucketState:
    """The state of one run.

    Args:
        uri: of the run.
        steps: what was listed, by the names of the steps.
    """

    def __init__(self, uri: str, run_id: str, steps: dict[str, _Step], store: Store) -> None:
        self.run_id = run_id
        self._uri, self._steps, self._store = uri, steps, store
        self._manifests: dict[str, dict[str, Any]] = {}

    def size(self) -> Size:
        steps = self._steps.values()
        return Size(
            sum(step.num_files for step in steps),
            sum(step.num_bytes for step in steps),
            max((step.newest for step in steps), default=0.0),
        )

    def confirm(self) -> list[Left]:
        left = []
        for name in list(self._steps):
            values = self._read(name)
            if values is None:
                del self._steps[name]
                reason = f"its {MANIFEST} is not of {PROJECT}, or damaged; remove it by hand"
                left.append(Left(f"{self.run_id}/{name}", reason))
            else:
                self._manifests[name] = values
        return left

    def _read(self, step: str) -> dict[str, Any] | None:
        """Return a manifest of this project, of any version; None for others. Raises InUse."""
        found = fetch(f"{self._uri}/{step}/{MANIFEST}", store=self._store)
        if found is None or found[1].strip('"') != self._steps[step].etag:
            raise InUse
        try:
            values: dict[str, Any] = json.loads(found[0])
            place = (values["project"], values["run_id"], values["step"])
            int(values["generation"])
        except (ValueError, KeyError, TypeError):
            return None
        return values if place == (PROJECT, self.run_id, step) else None

    def remove(self) -> None:
        for step in self._steps:
            self._close(step)
        for step in self._steps:
            self._empty(step)

    def _close(self, step: str) -> None:
        """Take the state over, so that a pod that still writes it stops before the removal."""
        closed = {
            **self._manifests[step],
            "generation": int(self._manifests[step]["generation"]) + 1,
            "owner": uuid.uuid4().hex,
            "writer": socket.gethostname(),
            "removing": True,
        }
        uri, etag = f"{self._uri}/{step}/{MANIFEST}", f'"{self._steps[step].etag}"'
        try:
            put_if_same(json.dumps(closed).encode(), uri, etag, store=self._store)
        except ObjectExists:
            raise InUse from None

    def _empty(self, step: str) -> None:
        """The manifest goes last, so that a removal that was cut off can be done again."""
        uri = f"{self._uri}/{step}"
        prefix = f"{uri}/{FILES}/"
        names = [item.key.rpartition("/")[2] for item in list_objects(prefix, store=self._store)]
        with ThreadPoolExecutor(THREADS) as pool:
            ours = [prefix + name for name in names if generation_of(name) is not None]
            list(pool.map(lambda one: remove(one, store=self._store), ours))
        try:
            abort_uploads(prefix, is_abandoned=lambda one: True, store=self._store)
        except InputError as error:  # not every store lists them; most remove them after a time
            _log.warning("uploads that were cut off may be left: %s", error)
        remove(f"{uri}/{MANIFEST}", store=self._store)
