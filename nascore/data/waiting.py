"""Time that a loop waits for its next batch."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

_Item = TypeVar("_Item")


class Waiting:
    """Time that is spent on getting items rather than on using them.

    Attributes:
        seconds: total time of all iterations.
    """

    def __init__(self) -> None:
        self.seconds = 0.0

    def over(self, items: Iterable[_Item]) -> Iterator[_Item]:
        """Yield the same items; waiting for each of them counts."""
        iterator = iter(items)
        while True:
            start = time.perf_counter()
            try:
                item = next(iterator)
            except StopIteration:
                return
            finally:
                self.seconds += time.perf_counter() - start
            yield item
