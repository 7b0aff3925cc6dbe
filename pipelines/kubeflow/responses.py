"""Reading of large answers of the server while they arrive."""

from typing import Any

_KEPT_BYTES, _CHUNK_BYTES = 2**20, 2**16


def read_part(response: Any, skip: int) -> tuple[str, int]:
    """Return an answer without its first bytes, and its size in bytes.

    At most the last megabyte is returned. An answer shorter than `skip` is returned from its
    beginning.
    """
    whole, part, size = b"", b"", 0
    for chunk in response.stream(_CHUNK_BYTES):
        part = (part + chunk[max(0, skip - size) :])[-_KEPT_BYTES:]
        whole, size = (whole + chunk)[-_KEPT_BYTES:], size + len(chunk)
    return (part if size >= skip else whole).decode(errors="replace"), size
