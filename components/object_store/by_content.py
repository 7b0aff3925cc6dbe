"""Objects that never change, known by the SHA-256 of their content."""

from pathlib import Path
from typing import Any

from components.object_store.client import TRANSFER, Store, code_of, is_damage
from components.object_store.objects import parsed
from components.object_store.outputs import sha256_of

_TRIES_IF_DAMAGED = 3


class ObjectMissing(Exception):
    """There is no such object."""


class ObjectDamaged(Exception):
    """An object has another content than it was written with."""


def download_exact(uri: str, path: Path, *, sha256: str, store: Store) -> None:
    """Bring an object here; `path` is a place that nobody reads yet.

    Args:
        sha256: of its content; one that comes with another is fetched again, twice.

    Raises:
        ObjectMissing, ObjectDamaged: it is not there, or not what it was.
        InputError: what else is wrong and what to do.
    """
    bucket, key = parsed(uri, store)

    def request(client: Any) -> bool:
        """Whether it has come whole."""
        try:
            client.download_file(bucket, key, str(path), Config=TRANSFER)
        except Exception as error:
            if code_of(error) in ("404", "NoSuchKey"):
                return False
            if not is_damage(error):
                raise
        return True

    path.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(_TRIES_IF_DAMAGED):
        if not store.call(uri, request):
            raise ObjectMissing(uri)
        if path.exists() and sha256_of(path) == sha256:
            return
    raise ObjectDamaged(uri)
