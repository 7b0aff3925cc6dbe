"""New tries of a call: which errors, how often, and for how long."""

import time

import pytest

from nascore.retries import Backoff, call_with_retries

QUICK = Backoff(first_pause_s=0.01, longest_pause_s=0.05)


class Service:
    """Raises its errors one after the other, and then answers."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.num_calls = 0

    def __call__(self) -> str:
        self.num_calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


def is_refused(error: BaseException) -> bool:
    return isinstance(error, ConnectionError)


def test_transient_errors_are_retried_and_noted() -> None:
    service, noted = Service(ConnectionError(1), ConnectionError(2)), []
    answer = call_with_retries(
        service, is_transient=is_refused, timeout_s=60, backoff=QUICK, on_retry=noted.append
    )
    assert answer == "answer"
    assert service.num_calls == 3
    assert [error.args for error in noted] == [(1,), (2,)]


@pytest.mark.parametrize("error", [ValueError("wrong"), KeyboardInterrupt(), SystemExit(1)])
def test_other_errors_are_raised_at_once(error: BaseException) -> None:
    service = Service(error)
    with pytest.raises(type(error)):
        call_with_retries(service, is_transient=lambda error: error.args != ("wrong",), timeout_s=9)
    assert service.num_calls == 1


def test_the_last_try_is_made_at_the_time_limit() -> None:
    service = Service(*[ConnectionError(number) for number in range(99)])
    start = time.monotonic()
    with pytest.raises(ConnectionError):
        call_with_retries(
            service,
            is_transient=is_refused,
            timeout_s=0.3,
            backoff=Backoff(first_pause_s=10, longest_pause_s=10),
        )
    assert 0.3 <= time.monotonic() - start < 5
    assert service.num_calls > 1


def test_without_time_there_is_one_try() -> None:
    service = Service(ConnectionError())
    with pytest.raises(ConnectionError):
        call_with_retries(service, is_transient=is_refused, timeout_s=0)
    assert service.num_calls == 1


def test_a_stop_ends_the_tries() -> None:
    service = Service(*[ConnectionError()] * 9)
    with pytest.raises(ConnectionError):
        call_with_retries(service, is_transient=is_refused, timeout_s=60, should_stop=lambda: True)
    assert service.num_calls == 1
