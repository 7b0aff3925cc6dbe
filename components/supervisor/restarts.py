"""How often the work of a step is started again after a crash, and after which pause."""

import os
from dataclasses import dataclass

from components.ending import End
from components.variables import RESTART_PAUSE_S, RESTARTS, seconds
from nascore.errors import InputError

LONGEST_PAUSE_S = 60.0
_STARTED_S, _TIMES_PAUSE = 10.0, 5
SAME_FAILURES = 3
"""After so many equal errors in a row, another try would fail in the same way."""


@dataclass(slots=True)
class Restarts:
    """Counts the ends of a step's work and decides on the next start.

    Attributes:
        limit: restarts at most.
        pause_s: before the first restart; it doubles up to a minute, and begins again after a try
            that worked for longer than ten seconds and than five times the pause before it.
    """

    limit: int
    pause_s: float
    count: int = 0
    _paused_s: float = 0.0
    _last_reason: str = ""
    _num_same: int = 0

    @classmethod
    def from_environment(cls) -> "Restarts":
        given = os.environ[RESTARTS]
        if not given.isdigit():
            raise InputError.of(RESTARTS, given, "is no number of restarts; write 0 or more")
        return cls(int(given), seconds(RESTART_PAUSE_S))

    def pause_after(self, end: End, *, lasted_s: float) -> float | None:
        """Return the seconds to wait before the next start; None when there is to be none.

        Wrong input and a wish to stop are final. So is an error that says the same three times in
        a row; a kill says nothing about its cause, and only the limit ends it.

        Args:
            end: how the last try ended.
            lasted_s: how long that try had worked.
        """
        if end.kind in ("input", "stopped") or self.count >= self.limit:
            return None
        if end.kind == "crash" and end.reason.startswith("killed by"):
            self._num_same = 0
        else:
            self._num_same = self._num_same + 1 if end.reason == self._last_reason else 1
        self._last_reason = end.reason
        if end.kind == "crash" and self._num_same >= SAME_FAILURES:
            return None
        self.count += 1
        worked = lasted_s > max(_STARTED_S, _TIMES_PAUSE * self._paused_s)
        first = self.count == 1 or worked
        self._paused_s = self.pause_s if first else min(2 * self._paused_s, LONGEST_PAUSE_S)
        return self._paused_s
