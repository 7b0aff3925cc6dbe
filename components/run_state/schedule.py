"""When the next push of the state is due."""

import time
from collections.abc import Callable

_INTERVAL_S = 30.0
_SHARE = 0.01


class PushSchedule:
    """Keeps pushes at least 30 s apart, and so far apart that they take under 1 % of the time.

    Args:
        interval_s: the shortest time from the end of a push to the next one.
        share: of the time that pushes may take, by the duration of the last one.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        *,
        interval_s: float = _INTERVAL_S,
        share: float = _SHARE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._interval_s, self._share, self._clock = interval_s, share, clock
        self._due_s = clock() + interval_s

    def is_due(self) -> bool:
        return self.seconds_left() <= 0

    def seconds_left(self) -> float:
        """Return the time until the next push; negative when it is overdue."""
        return self._due_s - self._clock()

    def pushed(self, seconds: float) -> None:
        """Note a push that has just ended and took so long."""
        self._due_s = self._clock() + max(self._interval_s, seconds / self._share)

    def failed(self, seconds: float) -> None:
        """Note a push that failed: it has mostly waited, so the next one is due sooner."""
        self._due_s = self._clock() + max(self._interval_s, seconds)
