"""Writes that find out what a store takes: the checksums of boto3, and conditions."""

import contextlib

from components.object_store.client import Store
from components.object_store.writing import (
    ObjectExists,
    is_weak,
    note_ignored,
    put,
    put_if_absent,
)
from nascore.errors import InputError, ResourceUnavailable


def write_plainly(uri: str, data: bytes, *, store: Store) -> None:
    """Write a small object as the first write to a store.

    Raises:
        InputError: it cannot be written; if it can without the checksums of boto3, that is said.
    """
    try:
        put(data, uri, store=store)
    except ResourceUnavailable:
        try:
            put(data, uri, store=store.without_checksums())
        except InputError:
            pass  # the first error is the one that the user has to mend
        else:
            raise store.problem(
                uri,
                "the store refuses the checksums that boto3 sends with a write; set "
                "AWS_REQUEST_CHECKSUM_CALCULATION=when_required",
            ) from None
        raise


def has_conditions(uri: str, *, store: Store) -> bool:
    """Return whether the store of an object keeps the conditions of writes, by trying.

    Some stores refuse such a write, others ignore its condition; see `writing.is_weak`.

    Args:
        uri: of a small object that may be written.
        store: as usual.

    Raises:
        InputError: it cannot be written.
    """
    if not is_weak(uri, store=store):
        with contextlib.suppress(ObjectExists):
            put_if_absent(b"", uri, store=store)
    if not is_weak(uri, store=store):
        with contextlib.suppress(ObjectExists):
            put_if_absent(b"", uri, store=store)
            note_ignored(uri, store=store)
    return not is_weak(uri, store=store)
