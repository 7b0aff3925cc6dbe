"""Environment variables by which a compiled pipeline tells the supervisor what it may do."""

import os

from nascore.errors import InputError

RESTARTS = "NAS_RESTARTS"
"""Restarts of the work after a crash; where it is not set, nothing is supervised."""
RESTART_PAUSE_S = "NAS_RESTART_PAUSE_S"
"""Seconds before the first restart."""
STORE_WAIT_S = "NAS_STORE_WAIT_S"
"""Seconds to wait for an object store that is unreachable at the end of a step."""
DEFAULTS = {RESTART_PAUSE_S: 2.0, STORE_WAIT_S: 600.0}
"""Where the variable is not set: each variable stands some twenty times in the status of a run."""
CPUS = "NAS_CPUS"
"""Processors that the step asked for, and may use (`nascore.processors`)."""
MEMORY = "NAS_MEMORY"
"""Memory limit as the configuration has it, such as `2Gi`; for messages."""
STATE_ROOT = "NAS_STATE_ROOT"
"""Folder of a mounted volume, or `s3://BUCKET/PREFIX`; not set where state is lost with the pod."""


def seconds(name: str) -> float:
    """Return the value of a variable that holds seconds, or its default."""
    given = os.environ.get(name)
    if given is None:
        return DEFAULTS[name]
    try:
        return max(0.0, float(given))
    except ValueError as error:
        raise InputError.of(name, given, "is no number of seconds; write 0 or more") from error
