"""What an error of a tracking store means, and calls that wait for an unreachable store.

Errors are read by their attributes, so that mlflow, which takes seconds to import, is not needed.
"""

import re
from collections.abc import Callable
from typing import TypeVar

from nascore.errors import InputError, ResourceUnavailable
from nascore.redaction import redact
from nascore.retries import Backoff, call_with_retries
from nascore.service_errors import ErrorKind, Row, find, kind_of_status

Result = TypeVar("Result")

BACKOFF = Backoff(first_pause_s=1.0, longest_pause_s=15.0)
# The store refuses the account. With basic authentication it also answers so for what is not there.
_ACCOUNT_CODES = ("PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED")
_ANSWER = re.compile(r"failed with error code (\d{3})\b")
_CAUSE = re.compile(r"failed with exception .*\(Caused by (.*)\)$|failed with exception (.*)")
_CODE_OF_STATUS = {401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "ENDPOINT_NOT_FOUND"}
_INACTIVE = "must be in the 'active' state"
_WITHOUT_CODE = (405, 407, 413, 501)  # MLflow has no code for these, and calls them internal errors
_PROGRAMMING = (
    *(TypeError, AttributeError, NameError, LookupError, ArithmeticError),
    *(AssertionError, ImportError, NotImplementedError),
)
_ACCESS = "check tracking.uri and the account of the steps"
OTHER_MACHINE = (
    "start the server with --serve-artifacts, or give it an artifact root in S3, if it runs on "
    "another machine"
)
"""What to do about artifacts in a folder of the server."""


def kind_of(error: BaseException) -> ErrorKind:
    """Return whether to wait, to report the set-up, or to leave out the one call.

    What no table knows is transient: a store can raise anything. Only errors of the program are
    not: the same call fails each time.
    """
    if isinstance(error, InputError | PermissionError):
        return ErrorKind.SETUP
    if is_of_program(error):
        return ErrorKind.REQUEST
    row = _row(error)
    if row is not None:
        return row.kind
    status = status_of(error)
    if status is not None:
        return kind_of_status(status)
    if _is_of_s3(error):
        from components.object_store import s3_errors  # boto3: a third of a second

        return ErrorKind.TRANSIENT if s3_errors.is_transient(error) else ErrorKind.SETUP
    return ErrorKind.TRANSIENT


def is_of_program(error: BaseException) -> bool:
    """Return whether it is an error of the program, which says nothing about the store."""
    return isinstance(error, _PROGRAMMING)


def is_transient(error: BaseException) -> bool:
    """Return whether the same call may succeed later."""
    return kind_of(error) is ErrorKind.TRANSIENT


def remedy_of(error: BaseException) -> str:
    """Return what to do about an error of the set-up."""
    row = _row(error)
    if row is not None and row.remedy:
        return row.remedy
    if isinstance(error, PermissionError):
        return OTHER_MACHINE
    if _is_of_s3(error):
        from components.object_store.s3_errors import final_message  # boto3: a third of a second

        return f"artifacts in S3: {final_message(error)}"
    return _ACCESS


def refuses_account(error: BaseException) -> bool:
    """Return whether the store refuses the account: an administrator can change that."""
    return _code(error) in _ACCOUNT_CODES


def is_inactive(error: BaseException) -> bool:
    """Return whether the run or experiment of a request is deleted in MLflow."""
    return _INACTIVE in str(error)


def status_of(error: BaseException) -> int | None:
    """Return the status of an HTTP answer.

    Transfers of artifacts raise errors of requests, which have it; MLflow's own errors of answers
    without one of its codes have it in their text only.
    """
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(status, int):
        return status
    shown = _ANSWER.search(str(error))
    return int(shown[1]) if shown else None


def brief(error: BaseException) -> str:
    """Return one line about an error, without secrets."""
    if isinstance(error, InputError):
        return str(error)
    lines = str(error).strip().splitlines()
    line = f"{type(error).__name__}: {lines[0] if lines else ''}"
    cause = _CAUSE.search(line)  # the address before it is long and known
    return redact(line if cause is None else cause[1] or cause[2])[:300]


def explained(error: BaseException) -> str:
    """Return the message of an error, followed by the remedy where the table has one."""
    row = _row(error)
    first, mark, rest = str(error).partition("\n")
    return f"{first}; {row.remedy}{mark}{rest}" if row is not None and row.remedy else str(error)


def report(error: BaseException) -> str:
    """Return what is wrong with the set-up and what to do, without secrets."""
    if isinstance(error, InputError):
        return str(error)
    return f"the tracking store refuses access ({brief(error)}); {remedy_of(error)}"


def call_mlflow(
    call: Callable[[], Result], *, timeout_s: float, on_outage: Callable[[str], None]
) -> Result:
    """Return what `call` returns, which is tried again while the store is unreachable.

    Args:
        call: may be made twice without harm: its answer can be lost after it was carried out.
        timeout_s: the last try is made so many seconds after the first.
        on_outage: gets one sentence when the store is unreachable.

    Raises:
        TimeoutError: the store did not answer in time; the cause is its last error.
        ResourceUnavailable: the store refuses the account, or something else that can be changed.
        MlflowException: the store refuses this call.
    """
    is_reported = False

    def note(error: BaseException) -> None:
        nonlocal is_reported
        if not is_reported:
            on_outage(
                f"the tracking store is unreachable ({brief(error)}); trying again for "
                f"{timeout_s:.0f} s"
            )
        is_reported = True

    try:
        return call_with_retries(
            call,
            is_transient=lambda error: _is_of_store(error) and is_transient(error),
            timeout_s=timeout_s,
            backoff=BACKOFF,
            on_retry=note,
        )
    except Exception as error:  # MLflow, requests and boto3 have no common class of errors
        kind, row = kind_of(error), _row(error)
        has_remedy = row is not None and bool(row.remedy)
        if not _is_of_store(error) or (kind is ErrorKind.REQUEST and not has_remedy):
            raise
        if kind is not ErrorKind.TRANSIENT:
            raise ResourceUnavailable.of("tracking.uri", None, report(error)) from error
        raise TimeoutError(f"no answer for {timeout_s:.0f} s ({brief(error)})") from error


def _is_of_store(error: BaseException) -> bool:
    """Return whether MLflow's client may raise it; errors of requests are OSErrors."""
    return bool(_code(error)) or isinstance(error, OSError) or _is_of_s3(error)


def _is_of_s3(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] in ("boto3", "botocore", "s3transfer")


def _code(error: BaseException) -> str:
    """Return the code of an MlflowException, or that of an answer's status; empty without one."""
    status = status_of(error)
    if status in _WITHOUT_CODE:
        return str(status)
    return str(getattr(error, "error_code", _CODE_OF_STATUS.get(status or 0, "")))


def _row(error: BaseException) -> Row | None:
    if _is_of_s3(error):
        return None
    return find("mlflow", code=_code(error), text=str(error))
