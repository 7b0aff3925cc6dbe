"""Dataclasses that are stored as JSON."""

import json
from dataclasses import asdict, dataclass

import pytest

from nascore.stored import read_stored


@dataclass(frozen=True, slots=True)
class _Inner:
    value: float

    def __post_init__(self) -> None:
        if self.value < 0:
            raise ValueError("is negative")


@dataclass(frozen=True, slots=True)
class _Outer:
    names: tuple[str, ...]
    inner: dict[str, _Inner]
    rows: tuple[tuple[int, ...], ...] | None = None
    version: int = 3


def test_what_was_written_is_read_back() -> None:
    one = _Outer(("a", "b"), {"x": _Inner(0.5)}, ((1, 2), (3,)))
    data = json.loads(json.dumps(asdict(one)))
    assert read_stored(_Outer, data, version=3, name="outer") == one
    assert read_stored(_Outer, {**data, "more": 1}, version=3, name="outer") == one


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "outer version must be 3, got 2"),
        ({"names": 5}, "^names of the outer: Input should be a valid tuple$"),
        ({"inner": {"x": {"value": -1.0}}}, r"^inner\.x of the outer: Value error, is negative$"),
        ({"inner": {"x": {}}}, r"^inner\.x\.value of the outer: Field required$"),
    ],
)
def test_other_data_are_a_value_error(change: dict[str, object], message: str) -> None:
    data = {**asdict(_Outer(("a",), {})), **change}
    with pytest.raises(ValueError, match=message):
        read_stored(_Outer, data, version=3, name="outer")
