"""Calls to a store that may be away for a while, or may refuse them."""

import time
from collections.abc import Callable
from typing import TypeVar

from mlflow.exceptions import MlflowException

from components.tracking.store_checks import WHAT_TO_DO, brief
from nascore.errors import ResourceUnavailable

Result = TypeVar("Result")

# The store has understood the call, and would answer it in the same way again.
_FINAL_CODES = (
    "INVALID_PARAMETER_VALUE",
    "BAD_REQUEST",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
)
_FINAL_STATUS = (400, 413, 422)
# The store refuses the account. With basic authentication it also answers so for what is not there.
_REFUSAL_CODES = ("PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED")
_REFUSAL_STATUS = (401, 403)
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 15.0


def is_final(error: Exception) -> bool:
    """Return whether the store will always refuse this call, whoever makes it."""
    if isinstance(error, MlflowException):
        return error.error_code in _FINAL_CODES
    return _status_of(error) in _FINAL_STATUS


def is_refusal(error: Exception) -> bool:
    """Return whether the store refuses the account: no outage, but nothing is wrong with the call.

    It will be taken when an administrator has given the account what it needs.
    """
    if isinstance(error, MlflowException):
        return error.error_code in _REFUSAL_CODES
    return _status_of(error) in _REFUSAL_STATUS


def _status_of(error: Exception) -> int | None:
    """Status of an HTTP answer; transfers of artifacts raise errors of requests."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def call_with_retries(
    call: Callable[[], Result], *, timeout_s: float, tell: Callable[[str], None]
) -> Result:
    """Return what `call` returns, which is tried again while the store is away.

    Args:
        call: may be made twice without harm: its answer can be lost after it was carried out.
        timeout_s: no new try is begun after so many seconds.
        tell: is told once that the store is away.

    Raises:
        TimeoutError: the store did not come back in time; the cause is its last error.
        ResourceUnavailable: the store refuses the account.
        MlflowException: the store refuses the call.
    """
    end, pause_s, is_told = time.monotonic() + timeout_s, _FIRST_PAUSE_S, False
    while True:
        try:
            return call()
        except (MlflowException, OSError) as error:  # requests' errors are OSErrors
            if is_refusal(error):
                raise ResourceUnavailable.of(
                    "tracking.uri", None, f"the store refuses us ({brief(error)}); {WHAT_TO_DO}"
                ) from error
            if is_final(error):
                raise
            if time.monotonic() + pause_s > end:
                raise TimeoutError(f"no answer for {timeout_s:.0f} s ({brief(error)})") from error
            if not is_told:
                tell(f"the store is away ({brief(error)}); trying again for {timeout_s:.0f} s")
                is_told = True
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
