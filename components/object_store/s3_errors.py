"""What an error of boto3 means: whether a retry may help, and what to do, in one sentence."""

from boto3.exceptions import Boto3Error
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    ProfileNotFound,
    ResponseStreamingError,
    SSLError,
)
from s3transfer.exceptions import RetriesExceededError, S3DownloadFailedError

from components.object_store.answers import NeedsTlsError, NotS3Error
from nascore.redaction import redact
from nascore.service_errors import ErrorKind, Row, find, kind_of_status

CHECK_ADDRESS = "AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL"
_UNREACHABLE = (
    ConnectionError,
    HTTPClientError,
    IncompleteReadError,
    ResponseStreamingError,
    ConnectionResetError,
    TimeoutError,
)


# RecursionError: botocore follows redirects in circles, in the client that MLflow makes.
RAISED = (
    *(Boto3Error, S3DownloadFailedError, RetriesExceededError),
    *(BotoCoreError, ClientError, NotS3Error, NeedsTlsError, OSError),
    *(RecursionError, ValueError),
)
"""All that a request may raise that is no fault of this program."""


CERTAIN = (NotS3Error, NeedsTlsError, ProfileNotFound)
"""Errors of the address or the profile, which no account or network changes."""


def cause_of(error: BaseException) -> BaseException:
    """Return the error behind one of the transfer manager."""
    if isinstance(error, RetriesExceededError):
        last: Exception = error.last_exception
        return last
    if isinstance(error, Boto3Error | S3DownloadFailedError):
        behind: BaseException | None = error.__context__
        return behind or error
    return error


def code_of(error: BaseException) -> str:
    """Return S3's code; of a HEAD, whose answers have no body, the status."""
    if not isinstance(error, ClientError):
        return ""
    code = str(error.response.get("Error", {}).get("Code", ""))
    return "PreconditionFailed" if code == "412" else code


def is_damage(error: BaseException) -> bool:
    """Return whether what was received does not have the checksum that the store has for it."""
    return isinstance(cause_of(error), FlexibleChecksumError)


def is_transient(error: BaseException) -> bool:
    """Return whether the same request may succeed later."""
    row = _row(error)
    if row is not None:
        return row.kind is ErrorKind.TRANSIENT
    if isinstance(error, ClientError):
        return kind_of_status(_status(error)) is ErrorKind.TRANSIENT
    return isinstance(error, _UNREACHABLE)


def refuses_condition(error: BaseException) -> bool:
    """Return whether a store without conditional writes may have refused a write for its condition.

    Such stores answer 501, or 400 with a code of their own.
    """
    if not isinstance(error, ClientError):
        return False
    is_known = _row(error) is not None
    return _status(error) == 501 or (_status(error) in (400, 405) and not is_known)


def final_message(error: BaseException) -> str:
    """Return what an error that a retry does not end means, and what to do."""
    row = _row(error)
    if row is not None and row.remedy:
        is_vague = isinstance(error, SSLError | NotS3Error | ProfileNotFound)
        cause, mark, advice = row.remedy.partition("; ")
        return f"{cause} ({brief(error)}){mark}{advice}" if is_vague else row.remedy
    if isinstance(error, OSError):
        return f"a file cannot be read or written here ({error}); free space or correct the path"
    return f"failed ({brief(error)}); check the URI and {CHECK_ADDRESS}"


def brief(error: BaseException) -> str:
    """Return an error in a few words, without secrets."""
    if isinstance(error, ClientError):
        code = code_of(error)
        named = f"{code}, " if code else "no code of S3, "  # a firewall or proxy answered
        return f"{named}HTTP status {_status(error) or '?'}"
    return redact(str(error))[:300]


def _row(error: BaseException) -> Row | None:
    code = code_of(error) if isinstance(error, ClientError) else type(error).__name__
    return find("s3", code=code, text="" if isinstance(error, ClientError) else str(error))


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
