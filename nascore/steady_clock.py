"""The time since the epoch by a clock that never jumps: durations between such times are right.

The time of day is read once, when the process (or the one that forked it) starts; the monotonic
clock is added to it. If NTP or a user sets the clock during a run, the order and the distances of
what the run records stay right.
"""

import time

# With the time in which a laptop slept, which Linux leaves out of CLOCK_MONOTONIC.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_AHEAD_NS = time.time_ns() - time.clock_gettime_ns(_CLOCK)


def since_epoch_ns() -> int:
    """Return nanoseconds since the epoch."""
    return _AHEAD_NS + time.clock_gettime_ns(_CLOCK)


def since_epoch_s() -> float:
    """Return seconds since the epoch."""
    return since_epoch_ns() / 1e9
