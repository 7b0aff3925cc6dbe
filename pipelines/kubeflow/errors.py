"""Errors of requests to a KFP API server, each one message with what to do."""

import json
import re
from typing import Any

from nascore.redaction import redact
from pipelines.kubeflow.connection import COOKIE, TOKEN, Connection

BUSY = 429
_OF_GATEWAYS = (502, 503, 504)  # the server behind may still be working
_SHOWN = 300
# KFP 2.17 wraps a wrong request into an internal error and answers 500; the kinds of error keep
# their names in the text, in two spellings.
_WRONG_INPUT = re.compile(
    r"(InvalidInputError|Invalid input error|NotFoundError|BadRequestError"
    r"|Already exist error|FailedPreconditionError)(: |$)"
)
_NO_SUCH_CALL = "Not Found"  # reason for a path that the API does not have
_WHAT = {403: "forbids this", 404: "does not find it", 409: "has it already"}
_ADVICE = {
    403: "; ask for the rights, or give the namespace that is yours with --namespace",
    404: "; check the name or id, and --namespace",
    409: "; choose another name",
}


class ClusterError(Exception):
    """The server is unreachable, refuses the request, or fails.

    Attributes:
        exit_status: 2 if another input can help, 1 if only the server can.
        is_transient: whether the same request may succeed later.
        may_be_done: whether the server may have executed the request nevertheless.
        is_answered: whether it would have been executed by now.
        is_missing: whether the server has no such object.
        is_taken: whether the server has an object of that name already.
        is_refusal: whether the server has understood the request and does not allow it.
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
        is_taken: bool = False,
        is_refusal: bool = False,
    ) -> None:
        super().__init__(message)
        self.exit_status = exit_status
        self.is_transient = is_transient
        self.may_be_done = may_be_done
        self.is_answered = is_answered
        self.is_missing = is_missing
        self.is_taken = is_taken
        self.is_refusal = is_refusal


def shown(connection: Connection, text: str) -> str:
    """Return a text of the server for a message: short and without secrets."""
    text = redact(connection.hide(" ".join(text.split())))
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def no_kfp(connection: Connection) -> ClusterError:
    """Return the error for an answer that is not KFP's, such as a web page."""
    return ClusterError(
        f"{connection.host} does not answer as a KFP API server; check --host (behind Kubeflow's "
        "gateway it ends in /pipeline), and that you are logged in",
        exit_status=2,
    )


def refused(connection: Connection, status: int, body: str) -> ClusterError:
    """Return the error for an answer with a status of 300 or more."""
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
    said = shown(connection, reason or "no reason given")
    if status >= 500 and _WRONG_INPUT.search(reason):
        message = (
            f"{host} refuses this ({status}): {said}; this is not an outage; correct the request"
        )
        return ClusterError(message, exit_status=2)
    if status == BUSY or status >= 500:
        what = "is too busy, at every try" if status == BUSY else "fails"
        message = f"{host} {what} ({status}): {said}; try again later"
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
    message = f"{host} {_WHAT.get(status, 'refuses this')} ({status}): {said}"
    return ClusterError(
        message + _ADVICE.get(status, ""),
        exit_status=2,
        is_missing=status == 404,
        is_taken=status == 409,
        is_refusal=status in (400, 403, 409),
    )


def _reason(body: str) -> str:
    """Return KFP's message in an answer; empty if the answer is not KFP's.

    The handlers of uploads, which are no part of its gRPC gateway, call it `error_message`.
    """
    try:
        answer: Any = json.loads(body)
    except ValueError:
        return ""
    if not isinstance(answer, dict):
        return ""
    said = (answer.get(name) for name in ("message", "error", "error_message"))
    return str(next(filter(None, said), "no reason given"))


def unreachable(connection: Connection, error: Exception, limit_s: float) -> ClusterError:
    """Return the error for a request without an answer, from urllib3's error."""
    import urllib3

    cause = getattr(error, "reason", None) or error
    host = connection.host
    if isinstance(cause, urllib3.exceptions.SSLError):
        message = (
            f"{host} cannot be trusted: {shown(connection, str(cause))}; give the certificate of "
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
    message = f"{host} broke off: {shown(connection, str(cause))}; try again later"
    return ClusterError(message, is_transient=True, may_be_done=True)
