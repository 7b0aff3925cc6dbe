"""Times of repeated runs, without those that other processes interrupted."""

import resource
from dataclasses import dataclass, field

import numpy as np

from nascore.latency.table import TableEntry

_FEWEST_RUNS = 5  # a median of fewer uninterrupted runs is worse than one of all


@dataclass
class RunSeries:
    """Runs of one network or operation: milliseconds, and interruptions of each."""

    ms: list[float] = field(default_factory=list)
    interruptions: list[int] = field(default_factory=list)

    def add(self, ms: float, interruptions: int) -> None:
        """Add a run and the number of its interruptions."""
        self.ms.append(ms)
        self.interruptions.append(interruptions)

    def clear(self) -> None:
        """Remove all runs."""
        self.ms.clear()
        self.interruptions.clear()

    @property
    def num_uninterrupted(self) -> int:
        """Number of runs that nothing interrupted."""
        return self.interruptions.count(0)

    def entry(self) -> TableEntry:
        """Return the median of the uninterrupted runs, or of all where these are too few."""
        values = np.array(self.ms)
        if self.num_uninterrupted >= _FEWEST_RUNS:
            values = values[np.array(self.interruptions) == 0]
        low, middle, high = np.percentile(values, [25, 50, 75])
        return TableEntry(float(middle), float(high - low), len(values))


def interruptions() -> int:
    """Return the involuntary context switches of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
