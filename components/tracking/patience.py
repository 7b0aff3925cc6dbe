"""Calls to a store that may be away for a while."""

import time
from collections.abc import Callable
from typing import TypeVar

from mlflow.exceptions import MlflowException

from components.tracking.stores import brief

Result = TypeVar("Result")

# Answers that the same call would meet again.
_FINAL_CODES = (
    "INVALID_PARAMETER_VALUE",
    "BAD_REQUEST",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
)
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 15.0


def is_final(error: MlflowException) -> bool:
    """Whether the store has understood, and will say the same again."""
    return error.error_code in _FINAL_CODES


def patiently(
    call: Callable[[], Result], *, timeout_s: float, tell: Callable[[str], None]
) -> Result:
    """What `call` returns, which is tried again while the store is away.

    Args:
        call: may be made twice without harm: its answer can be lost after it was carried out.
        timeout_s: no new try is begun after so many seconds.
        tell: is told once that the store is away.

    Raises:
        TimeoutError: the store did not come back in time; the cause is its last error.
        MlflowException: the store refuses the call.
    """
    end, pause_s, is_told = time.monotonic() + timeout_s, _FIRST_PAUSE_S, False
    while True:
        try:
            return call()
        except (MlflowException, OSError) as error:  # requests' errors are OSErrors
            if isinstance(error, MlflowException) and is_final(error):
                raise
            if time.monotonic() + pause_s > end:
                raise TimeoutError(f"no answer for {timeout_s:.0f} s ({brief(error)})") from error
            if not is_told:
                tell(f"the store is away ({brief(error)}); trying again for {timeout_s:.0f} s")
                is_told = True
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
