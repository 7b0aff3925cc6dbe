"""What goes wrong between us and a KFP API server, in one message that says what to do."""

import json
import re
from typing import Any

from nascore.redaction import redact
from pipelines.kubeflow.connection import COOKIE, TOKEN, Connection

BUSY = 429
_OF_GATEWAYS = (502, 503, 504)  # the server behind may be working still
_SHOWN = 300
# The API wraps what is wrong with a request into an internal error, and answers 500 (KFP 2.17); the
# kinds of error keep their names in the text, in two spellings.
_WRONG_INPUT = re.compile(
    r"(InvalidInputError|Invalid input error|NotFoundError|BadRequestError"
    r"|Already exist error|FailedPreconditionError)(: |$)"
)
_NO_SUCH_CALL = "Not Found"  # of a way that the API does not have
_WHAT = {403: "forbids this", 404: "does not find it", 409: "has it already"}
_ADVICE = {
    403: "; ask for the rights, or give the namespace that is yours with --namespace",
    404: "; check the name or id, and --namespace",
    409: "; choose another name",
}


class ClusterError(Exception):
    """The server cannot be reached, refuses, or fails.

    Attributes:
        exit_status: 2 when another input can help, 1 when the server must.
        is_transient: whether the same request may succeed later.
        may_be_done: whether the server may have done what it was asked for all the same.
        is_answered: whether that would have been done by now.
        is_missing: whether the server has no such thing.
    """

    def __init__(
        self,
        message: str,
        *,
        exit_status: int = 1,
        is_transient: bool = False,
        may_be_done: bool = False,
        is_answered: bool = False,
        is_missing: bool = False,
    ) -> None:
        super().__init__(message)
        self.exit_status = exit_status
        self.is_transient = is_transient
        self.may_be_done = may_be_done
        self.is_answered = is_answered
        self.is_missing = is_missing


def tell(connection: Connection, text: str) -> str:
    """Text of the server, short and without secrets."""
    text = redact(connection.hide(" ".join(text.split())))
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def no_kfp(connection: Connection) -> ClusterError:
    """Something else than KFP answers, such as a web page."""
    return ClusterError(
        f"{connection.host} does not answer as a KFP API server; check --host (behind Kubeflow's "
        "gateway it ends in /pipeline), and that you are logged in",
        exit_status=2,
    )


def refused(connection: Connection, status: int, body: str) -> ClusterError:
    """The server answered with a status that means no."""
    host, reason = connection.host, _reason(body)
    if status == 401 or 300 <= status < 400:
        what = "does not know who we are" if status == 401 else "wants a log-in"
        return ClusterError(
            f"{host} {what} ({status}): give a token with --token-file or {TOKEN}, or a cookie "
            f"with {COOKIE}; one that was given has expired or is of another place",
            exit_status=2,
        )
    if status < 500 and status not in (403, BUSY) and not reason:
        return no_kfp(connection)
    told = tell(connection, reason or "no reason given")
    if status >= 500 and _WRONG_INPUT.search(reason):
        message = f"{host} refuses this ({status}): {told}; it is no outage, so put that right"
        return ClusterError(message, exit_status=2)
    if status == BUSY or status >= 500:
        what = "is too busy, at every try" if status == BUSY else "fails"
        message = f"{host} {what} ({status}): {told}; try again later"
        return ClusterError(
            message,
            is_transient=True,
            may_be_done=status != BUSY,
            is_answered=status not in _OF_GATEWAYS,
        )
    if status == 404 and reason == _NO_SUCH_CALL:
        message = (
            f"{host} has no such call (404): it is no Kubeflow Pipelines 2.17 or later, or --host "
            "lacks a part of its path (behind Kubeflow's gateway it ends in /pipeline)"
        )
        return ClusterError(message, exit_status=2)
    message = f"{host} {_WHAT.get(status, 'refuses this')} ({status}): {told}"
    return ClusterError(message + _ADVICE.get(status, ""), exit_status=2, is_missing=status == 404)


def _reason(body: str) -> str:
    """What KFP says beside a status; empty when it was not KFP that answered."""
    try:
        said: Any = json.loads(body)
    except ValueError:
        return ""
    if not isinstance(said, dict):
        return ""
    return str(said.get("message") or said.get("error") or "no reason given")


def unreachable(connection: Connection, error: Exception, limit_s: float) -> ClusterError:
    """There was no answer within a time: urllib3's error in our words."""
    import urllib3

    cause = getattr(error, "reason", None) or error
    host = connection.host
    if isinstance(cause, urllib3.exceptions.SSLError):
        message = (
            f"{host} cannot be trusted: {tell(connection, str(cause))}; give the certificate of "
            "its authority with --ca-file, or write http:// if it speaks no TLS"
        )
        return ClusterError(message, exit_status=2)
    if isinstance(cause, urllib3.exceptions.NameResolutionError):
        message = f"{host}: there is no host of that name; check --host"
        return ClusterError(message, exit_status=2, is_transient=True)
    if isinstance(cause, urllib3.exceptions.NewConnectionError):
        said = str(cause).rpartition("] ")[2] or "no connection"
        message = f"{host} cannot be reached ({said}); check --host, and that it runs"
        return ClusterError(message, exit_status=2, is_transient=True)
    if isinstance(cause, urllib3.exceptions.TimeoutError):
        message = f"{host} did not answer within {limit_s:g} s; try again, or raise --timeout"
        was_sent = not isinstance(cause, urllib3.exceptions.ConnectTimeoutError)
        return ClusterError(message, is_transient=True, may_be_done=was_sent)
    message = f"{host} broke off: {tell(connection, str(cause))}; try again later"
    return ClusterError(message, is_transient=True, may_be_done=True)
