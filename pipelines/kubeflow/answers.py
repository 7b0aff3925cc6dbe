"""What is taken of an answer of the server while it arrives: all, or a part that can be kept."""

from typing import Any

_KEPT_BYTES, _CHUNK_BYTES = 2**20, 2**16


def text_of(response: Any) -> str:
    """The whole answer.

    Raises:
        UnicodeDecodeError: it is no text.
    """
    return str(response.data.decode())


def part_of(response: Any, skip: int) -> tuple[str, int]:
    """An answer but for its first bytes, and its size; it may be too large to be kept."""
    whole, part, size = b"", b"", 0
    for chunk in response.stream(_CHUNK_BYTES):
        part = (part + chunk[max(0, skip - size) :])[-_KEPT_BYTES:]
        whole, size = (whole + chunk)[-_KEPT_BYTES:], size + len(chunk)
    return (part if size >= skip else whole).decode(errors="replace"), size
