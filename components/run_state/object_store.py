"""One step's state in an object store: pulled by a pod that takes the step over, then pushed.

The state changes by one write: a push uploads what is new under names that were never used before,
then replaces the manifest, and only then removes what the new manifest does not name. A process
that is killed anywhere leaves the old state or the new one.

Two pods may run the same step for a while, when a node is lost but still works. A pull takes the
state over by replacing the manifest, and each write of it is on the condition that no other pod has
replaced it. So the older pod finds out at its next push, and stops without removing anything. In a
store without conditional writes it looks just before each write, so that two pods that write at the
same moment may not notice each other.
"""

import contextlib
import socket
import tempfile
import threading
import time
import uuid
from dataclasses import dataclass, replace
from pathlib import Path

from components.object_store.client import RETRY_TIMEOUT_S, Store
from components.object_store.objects import fetch
from components.object_store.writing import (
    ObjectExists,
    is_weak,
    note_ignored,
    put_if_absent,
    put_if_same,
)
from components.run_state.contents import Content, Contents
from components.run_state.manifest import MANIFEST, Manifest, read_manifest
from components.run_state.pulling import DAMAGE_HELP, bring
from components.run_state.reference import KEY
from components.run_state.schedule import PushSchedule
from components.run_state.snapshot import FileChanged, stamps_of, take_snapshot
from nascore.errors import InputError, ResourceUnavailable

__all__ = ["ObjectState", "PushSchedule", "Pushed", "StateTaken"]

_ATTEMPTS = 3
_CLAIMS = 10


class StateTaken(ResourceUnavailable):
    """Another pod does this step now, or the state was removed; this process must not save more."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """The cost of a push.

    Attributes:
        bytes: that were sent.
        files: that were sent.
    """

    bytes: int
    seconds: float
    files: int


class ObjectState:
    """The state of one step of one run.

    Args:
        root: `s3://BUCKET/PREFIX`.
        folder: the local state folder of the step; its parent holds copies for a short time.
        config: what identifies the configuration; a state that was made with another is refused.
        retry_timeout_s: how long a pull waits for an unreachable store. A push does not wait: the
            next one sends the same.
    """

    def __init__(
        self,
        root: str,
        run_id: str,
        step: str,
        folder: Path,
        *,
        config: str | None = None,
        retry_timeout_s: float = RETRY_TIMEOUT_S,
    ) -> None:
        self.uri = f"{root.rstrip('/')}/{run_id}/{step}"
        self._manifest_uri = f"{self.uri}/{MANIFEST}"
        self._folder = folder
        self._blank = Manifest(run_id, step, config, 1, uuid.uuid4().hex, socket.gethostname())
        self._waiting_store = Store(
            key=KEY, retry_timeout_s=retry_timeout_s, trusted=True, damage_help=DAMAGE_HELP
        )
        self._store = Store(key=KEY, retry_timeout_s=0, trusted=True, damage_help=DAMAGE_HELP)
        self._lock = threading.Lock()
        self._manifest: Manifest | None = None
        self._etag = ""
        self._contents: Contents | None = None
        self._taken: StateTaken | None = None

    def pull(self) -> bool:
        """Take the state over, and copy it into the folder, whose content is replaced.

        Returns:
            Whether there was a state; if not, the folder is left as it is.

        Raises:
            InputError: the state is damaged, or belongs to something else; it is left as it is.
            ResourceUnavailable: the store is unreachable or refuses access.
        """
        with self._lock:
            manifest = self._claim()
            is_there = bool(manifest.files or manifest.folders)
            if is_there:
                bring(manifest, self.uri, self._folder, store=self._waiting_store)
            known = {
                file.path: Content(stamps_of(self._folder / file.path), file.sha256, file.size)
                for file in manifest.files
            }
            self._contents = Contents(
                self.uri,
                generation=manifest.generation,
                named=manifest.files,
                known=known,
                store=self._store,
            )
            return is_there

    def push(self, *, done: bool = False) -> Pushed:
        """Send what has changed since the last push; `pull` comes first.

        Args:
            done: the step has succeeded; only its results are kept.

        Raises:
            StateTaken: another pod does this step now; nothing will be sent any more.
            ResourceUnavailable: the store is unreachable or refuses access, or a file cannot be
                read here; the last state in the store is unchanged.
        """
        with self._lock:
            if self._taken is not None:
                raise StateTaken(self._taken.problems)
            start, changed = time.monotonic(), ""
            for _ in range(_ATTEMPTS):
                try:
                    num_bytes, num_files = self._push(done=done)
                    return Pushed(num_bytes, time.monotonic() - start, num_files)
                except FileChanged as error:
                    changed = str(error)
                except OSError as error:
                    raise ResourceUnavailable.of(
                        KEY, self._folder, f"cannot be read or copied ({error}); free space"
                    ) from error
            raise ResourceUnavailable.of(
                KEY, self._folder / changed, "changes faster than it can be read; tried again later"
            )

    def _push(self, *, done: bool) -> tuple[int, int]:
        """Return the number of bytes and of files that were sent."""
        assert self._manifest is not None, "the state is pulled first, which takes it over"
        assert self._contents is not None
        if not self._folder.is_dir():  # nothing was written yet
            return 0, 0
        prefix = f".{self._folder.name}.push-"
        with tempfile.TemporaryDirectory(prefix=prefix, dir=self._folder.parent) as place:
            snapshot = take_snapshot(
                self._folder, Path(place), known=self._contents.known, done=done
            )
            files, sizes = self._contents.send(snapshot)
        changed = replace(self._manifest, files=files, folders=snapshot.folders, done=done)
        num_bytes = sum(sizes)
        if changed != self._manifest:
            num_bytes += self._replace(changed)
            self._contents.keep_only(files)
        self._contents.remove_garbage()
        return num_bytes, len(sizes)

    # --- the manifest -------------------------------------------------------------------------

    def _claim(self) -> Manifest:
        """Become the one who may replace the manifest; what it names stays."""
        owner, writer, config = self._blank.owner, self._blank.writer, self._blank.config
        for _ in range(_CLAIMS):
            found = fetch(self._manifest_uri, store=self._waiting_store)
            claimed, etag = self._blank, None
            if found is not None:
                before, etag = self._read(found[0]), found[1]
                claimed = replace(
                    before,
                    generation=before.generation + 1,
                    owner=owner,
                    writer=writer,
                    config=config or before.config,
                )
            try:
                self._write(claimed, etag, self._waiting_store)
                self._try_condition(claimed)
                return claimed
            except ObjectExists:  # another pod was quicker
                continue
        raise ResourceUnavailable.of(
            KEY, self.uri, "is taken over by one pod after the other; end all but one of them"
        )

    def _try_condition(self, manifest: Manifest) -> None:
        """Find out whether the store ignores conditions, by writing the manifest again.

        Later writes then look first whether their condition holds, as `writing.is_weak` says.
        """
        store = self._waiting_store
        if is_weak(self._manifest_uri, store=store):
            return
        with contextlib.suppress(ObjectExists):
            self._etag = put_if_absent(manifest.to_json(), self._manifest_uri, store=store)
            note_ignored(self._manifest_uri, store=store)

    def _read(self, data: bytes) -> Manifest:
        blank = self._blank
        return read_manifest(
            data, self._manifest_uri, run_id=blank.run_id, step=blank.step, config=blank.config
        )

    def _write(self, manifest: Manifest, etag: str | None, store: Store) -> int:
        """Return the number of bytes. Raises ObjectExists if another pod has written it."""
        data = manifest.to_json()
        if etag is None:
            self._etag = put_if_absent(data, self._manifest_uri, store=store)
        else:
            self._etag = put_if_same(data, self._manifest_uri, etag, store=store)
        self._manifest = manifest
        return len(data)

    def _replace(self, manifest: Manifest) -> int:
        """Return the number of bytes. Raises StateTaken."""
        for _ in range(_ATTEMPTS):
            try:
                return self._write(manifest, self._etag, self._store)
            except ObjectExists:
                self._etag = self._own_etag()
        raise ResourceUnavailable.of(
            KEY, self._manifest_uri, "cannot be replaced; tried again later"
        )

    def _own_etag(self) -> str:
        """Return the manifest's ETag, if this process wrote it in a push without an answer.

        Raises:
            StateTaken: another pod wrote or removed it.
        """
        found = fetch(self._manifest_uri, store=self._store)
        try:
            if found is None:
                raise self._lost("was removed, by `nas clean-state` or by hand")
            current = self._read(found[0])
            if current.owner != self._blank.owner:
                raise self._lost(f"was taken over by pod {current.writer}")
            return found[1]
        except InputError as error:
            self._taken = StateTaken(error.problems)
            raise self._taken from error

    def _lost(self, what: str) -> StateTaken:
        return StateTaken.of(KEY, self.uri, f"{what}; this process saves no further state")
