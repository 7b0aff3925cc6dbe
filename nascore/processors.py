"""Number of processors that this process may use.

In a container all processors of the node are visible, whatever the container requested, and each
process would start a thread for every one of them.
"""

import os

CPUS = "NAS_CPUS"
"""Environment variable: processors that this process may use."""


def num_cpus() -> int:
    """Return the processors for this process: `NAS_CPUS`, else those that the system allows."""
    given = os.environ.get(CPUS, "")
    if given.isdigit() and int(given) > 0:
        return int(given)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
