"""The time since the epoch by a clock that never jumps: durations between such times are right.

It is the clock of the machine as it was when the process started, or the process that forked it. A
clock that is set while a run goes on, by NTP or by hand, so changes neither the order nor the
distance of what the run records.
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
