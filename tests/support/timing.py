"""Times of two ways to do the same, as a ratio that a busy machine changes little."""

import statistics
import time
from collections.abc import Callable, Iterable

Pair = tuple[Callable[[], object], Callable[[], object]]


def cost_ratio(
    pairs: Callable[[int], Iterable[Pair]], *, enough: float, attempts: int = 4
) -> float:
    """Median over pairs of the first's time by the second's, in seconds of the processor.

    The two of a pair take turns in being first. Where the median is above `enough`, which other
    work on the machine may do, further pairs are added.

    Args:
        pairs: of each attempt, by its number.
    """
    ratios: list[float] = []
    for attempt in range(attempts):
        for number, (one, other) in enumerate(pairs(attempt)):
            if (number + attempt) % 2:
                of_one, of_other = _seconds(one), _seconds(other)
            else:
                of_other, of_one = _seconds(other), _seconds(one)
            ratios.append(of_one / of_other)
        if statistics.median(ratios) <= enough:
            break
    return statistics.median(ratios)


def _seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start
