"""Check the place of the state of runs, before anything is computed."""

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from components.run_state.reference import KEY
from nascore.data.file_access import S3
from nascore.errors import InputError, Problem, ResourceUnavailable


def check_state(root: str, *, trusted: bool = False, retry_timeout_s: float = 60.0) -> str:
    """Write, read, replace and remove a small object or file.

    Args:
        root: `s3://BUCKET/PREFIX`, or a folder.
        trusted: an earlier step has used the address, so an unreachable server is waited for.
        retry_timeout_s: for how long.

    Returns:
        A warning; empty where there is none.

    Raises:
        InputError: with every problem that was found.
    """
    name = f".nas-check-{uuid.uuid4().hex}"
    if root.startswith(S3):
        uri = f"{root.rstrip('/')}/{name}"
        return _check_store(uri, trusted=trusted, retry_timeout_s=retry_timeout_s)
    _check_folder(Path(root), name)
    return ""


class _Findings:
    """Problems, each with all requests that failed for it."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._found: dict[str, tuple[Problem, list[str]]] = {}
        self._is_outside = True

    @contextlib.contextmanager
    def during(self, act: str) -> Iterator[None]:
        try:
            yield
        except InputError as error:
            self._is_outside &= isinstance(error, ResourceUnavailable)
            for problem in error.problems:
                same = problem.message.partition(" (")[0]  # the details differ by the request
                self._found.setdefault(same, (problem, []))[1].append(act)

    def add(self, message: str) -> None:
        self._is_outside = False
        self._found[message] = (Problem(KEY, self._uri, message), [])

    def tell(self) -> None:
        if self._found:
            kind = ResourceUnavailable if self._is_outside else InputError
            raise kind([_with_acts(*found) for found in self._found.values()])


def _with_acts(problem: Problem, acts: list[str]) -> Problem:
    failed = f"{', '.join(acts)} failed: " if acts else ""
    return Problem(problem.key, problem.value, failed + problem.message)


def _check_store(uri: str, *, trusted: bool, retry_timeout_s: float) -> str:
    from components.object_store.client import Store  # boto3: a third of a second
    from components.object_store.objects import fetch, look, may_list
    from components.object_store.write_checks import has_conditions, write_plainly
    from components.object_store.writing import (
        ObjectExists,
        note_ignored,
        put_if_same,
        remove,
        weak_writes,
    )

    store = Store(key=KEY, trusted=trusted, retry_timeout_s=retry_timeout_s)
    findings = _Findings(uri)
    warning = ""
    if not may_list(uri, store=store):  # raises what else is wrong with the address
        findings.add("may not be listed with these credentials; grant s3:ListBucket")
    with findings.during("writing"):
        write_plainly(uri, b"1", store=store)
        with findings.during("reading"):
            if (fetch(uri, store=store) or (b"", ""))[0] != b"1":
                findings.add("what was written is not what is read; use a consistent store")
        with findings.during("writing with If-None-Match: *"):
            if not has_conditions(uri, store=store):
                warning = weak_writes(uri)
        with findings.during("writing with If-Match"):
            try:
                put_if_same(b"2", uri, f'"{"0" * 32}"', store=store)
                note_ignored(uri, store=store)
                warning = weak_writes(uri)
            except ObjectExists:
                pass
        with findings.during("replacing"):
            try:
                put_if_same(b"3", uri, look(uri, store=store)["ETag"], store=store)
            except ObjectExists:
                findings.add("an object cannot be replaced by its ETag (If-Match); see the store")
        with findings.during("removing"):
            remove(uri, store=store)
    findings.tell()
    return warning


def _check_folder(root: Path, name: str) -> None:
    path = root / name
    try:
        path.write_text("1")
        os.replace(path, root / f"{name}-2")
        (root / f"{name}-2").read_text()
        (root / f"{name}-2").unlink()
    except OSError as error:
        raise ResourceUnavailable.of(
            KEY,
            root,
            f"cannot be written and read by user {os.getuid()}, groups {sorted(os.getgroups())} "
            f"({error.strerror}); give the folder to a group of the steps (securityContext."
            "fsGroup), or use cluster.state=s3://BUCKET/PREFIX",
        ) from error
