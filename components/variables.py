"""Environment variables with which a compiled pipeline configures the supervisor."""

import os

from nascore.errors import InputError

RESTARTS = "NAS_RESTARTS"
"""Restarts of the work after a crash; if unset, the work runs without a supervisor."""
RESTART_PAUSE_S = "NAS_RESTART_PAUSE_S"
"""Seconds before the first restart."""
STORE_WAIT_S = "NAS_STORE_WAIT_S"
"""Seconds to wait for an object store that is unreachable at the end of a step."""
DEFAULTS = {RESTART_PAUSE_S: 2.0, STORE_WAIT_S: 600.0}
"""Values of unset variables: each set variable appears some twenty times in the status of a run."""
CPUS = "NAS_CPUS"
"""Number of processors that the step requested and may use (`nascore.processors`)."""
MEMORY = "NAS_MEMORY"
"""Memory limit of the configuration, such as `2Gi`; for messages."""
STATE_ROOT = "NAS_STATE_ROOT"
"""Folder of a mounted volume, or `s3://BUCKET/PREFIX`; not set where state is lost with the pod."""


def seconds(name: str) -> float:
    """Return the seconds that a variable contains, or its default.

    Raises:
        InputError: it is no number.
    """
    given = os.environ.get(name)
    if given is None:
        return DEFAULTS[name]
    try:
        return max(0.0, float(given))
    except ValueError as error:
        raise InputError.of(name, given, "is no number of seconds; write 0 or more") from error
