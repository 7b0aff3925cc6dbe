"""How a call to a service that may be unreachable is tried again; the one policy for all services.

The pause before the n-th new try is drawn uniformly from 0 to `first_pause_s * 2**(n - 1)`, at most
`longest_pause_s`: exponential back-off with full jitter, so that the clients of a service that
comes back do not call it all at the same moment.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import tenacity

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Bounds of the pauses between two tries, in seconds."""

    first_pause_s: float = 0.5
    longest_pause_s: float = 10.0


def call_with_retries(
    call: Callable[[], Result],
    *,
    is_transient: Callable[[BaseException], bool],
    timeout_s: float,
    backoff: Backoff = Backoff(),
    on_retry: Callable[[BaseException], None] = lambda error: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Result:
    """Return what `call` returns, after new tries while its error is transient.

    Args:
        call: may be made twice without harm: it may have been carried out although its answer was
            lost.
        is_transient: whether the same call may succeed later; asked once for each error.
        timeout_s: the last try is made so many seconds after the first.
        backoff: pauses between the tries.
        on_retry: gets the error before each pause.
        should_stop: ends the tries early.

    Raises:
        Exception: the last error of `call`.
    """
    pause = tenacity.wait_random_exponential(backoff.first_pause_s, backoff.longest_pause_s)

    def wait(state: tenacity.RetryCallState) -> float:
        return min(pause(state), max(0.0, timeout_s - _elapsed_s(state)))

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(
            lambda error: isinstance(error, Exception) and is_transient(error)
        ),
        wait=wait,
        stop=lambda state: should_stop() or _elapsed_s(state) >= timeout_s,
        before_sleep=lambda state: on_retry(_error_of(state)),
        reraise=True,
    )
    return retrying(call)


def _elapsed_s(state: tenacity.RetryCallState) -> float:
    elapsed_s = state.seconds_since_start
    assert elapsed_s is not None, "tenacity sets it with the outcome of each try"
    return elapsed_s


def _error_of(state: Any) -> BaseException:
    error: BaseException = state.outcome.exception()
    return error
