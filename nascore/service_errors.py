"""Which errors of services end by themselves: one table for HTTP, MLflow, S3 and databases.

An error is looked up by what its client library knows of it: a code, an HTTP status, its text. A
retry policy (`nascore.retries`) waits only for `TRANSIENT` ones. `SETUP` and `REQUEST` are final:
waiting does not help, so that they are reported at once, with the remedy.
"""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Literal

Service = Literal["any", "mlflow", "s3", "database"]


class ErrorKind(Enum):
    """What to do about an error of a service."""

    TRANSIENT = "try again: the service is unreachable, overloaded or restarting"
    SETUP = "change an account, a right, an address or a certificate; until then every call fails"
    REQUEST = "this call is wrong; others may succeed"


@dataclass(frozen=True, slots=True)
class Row:
    """One known error.

    Attributes:
        code: as the service or the library names it; a regular expression.
        text: found in the message; a regular expression, empty if the code is enough.
        remedy: cause and advice; empty where the service's own message is enough.
    """

    service: Service
    kind: ErrorKind
    code: str
    text: str = ""
    remedy: str = ""


_TRANSIENT, _SETUP, _REQUEST = ErrorKind.TRANSIENT, ErrorKind.SETUP, ErrorKind.REQUEST
_S3_ADDRESS = "AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL"
_S3_REGION = (
    "the store redirects to another region; set AWS_REGION to that of the bucket, or "
    f"correct {_S3_ADDRESS}"
)
_S3_CHANGED = "has changed while it was read; let it rest, then run again"
_PROXY = (
    "a proxy asks for an account; give it in HTTP_PROXY or HTTPS_PROXY, or except the server in "
    "NO_PROXY"
)
_NO_MLFLOW = "this is no MLflow server, or its path is missing in tracking.uri"

# The first row that fits counts.
TABLE: tuple[Row, ...] = (
    # --- Of the connection, whatever the service --------------------------------------------
    Row("s3", _SETUP, "SSLError", r"WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|record layer failure",
        f"the server speaks http, not https; write http:// in {_S3_ADDRESS}"),
    Row("any", _SETUP, "", r"WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|record layer failure",
        "the server speaks http, not https; write http:// in its address"),
    Row("mlflow", _SETUP, "", r"CERTIFICATE_VERIFY_FAILED|certificate verify failed",
        "the server's certificate is not trusted; set MLFLOW_TRACKING_SERVER_CERT_PATH to the file "
        "of its authority"),
    Row("s3", _SETUP, "SSLError", "",
        "the server's certificate is not trusted; set AWS_CA_BUNDLE"),
    Row("mlflow", _SETUP, "", r"Invalid (leading|header value|return character)|InvalidHeader",
        "the account or the token has a line break or a space at an end; remove it from "
        "MLFLOW_TRACKING_TOKEN, MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"),
    Row("mlflow", _SETUP, "", r"(CA certificate bundle|certificate file|key file), invalid path",
        "correct MLFLOW_TRACKING_SERVER_CERT_PATH, MLFLOW_TRACKING_CLIENT_CERT_PATH or "
        "REQUESTS_CA_BUNDLE, which names no file here"),
    Row("mlflow", _SETUP, "", r"MLFLOW_TRACKING_INSECURE_TLS.*MLFLOW_TRACKING_SERVER_CERT_PATH",
        "remove MLFLOW_TRACKING_INSECURE_TLS"),
    Row("mlflow", _SETUP, "", r"(?i)plain HTTP.*(HTTPS|SSL)|HTTP request to an HTTPS server",
        "the server speaks https, not http; write https:// in tracking.uri"),
    Row("mlflow", _SETUP, "", r"Exceeded \d+ redirects",
        "the server redirects in a circle; correct tracking.uri, or let the steps pass the log-in "
        "(MLFLOW_TRACKING_TOKEN)"),
    Row("mlflow", _SETUP, "407", "", _PROXY),
    Row("mlflow", _SETUP, "", "407 Proxy Authentication Required", _PROXY),
    Row("mlflow", _REQUEST, "413", "", "a proxy before the server limits the size of "
        "uploads: raise its limit, such as client_max_body_size of nginx or the annotation "
        "nginx.ingress.kubernetes.io/proxy-body-size"),
    Row("s3", _SETUP, "", r"Invalid (leading|header value|return character)|InvalidHeader",
        "a key has a line break or a space at an end; remove it from AWS_ACCESS_KEY_ID, "
        "AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN"),
    Row("mlflow", _SETUP, "", r"database or disk is full|No space left on device",
        "the disk of the tracking store is full; free space"),
    # --- MLflow ------------------------------------------------------------------------------
    Row("mlflow", _SETUP, "UNAUTHENTICATED|CUSTOMER_UNAUTHORIZED", "", "give the account as "
        "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"),
    Row("mlflow", _SETUP, "PERMISSION_DENIED", "", "give the account of the steps "
        "(MLFLOW_TRACKING_USERNAME) the right to edit the experiment and the registered model, "
        "name another tracking.experiment, or let the server allow this host name "
        "(--allowed-hosts)"),
    Row("mlflow", _SETUP, "", r"body was not in a valid JSON format",
        "a log-in page or another program answers in place of MLflow; correct tracking.uri, or let "
        "the steps pass the log-in (MLFLOW_TRACKING_TOKEN)"),
    Row("mlflow", _SETUP, "ENDPOINT_NOT_FOUND", r"logged-models",
        "the server is older than this client (MLflow 3); update the server"),
    Row("mlflow", _SETUP, "ENDPOINT_NOT_FOUND", "", _NO_MLFLOW),
    Row("mlflow", _SETUP, "405|501", "", _NO_MLFLOW),  # such as an S3 store
    Row("mlflow", _REQUEST, "", "must be in the 'active' state",
        "it is deleted in MLflow; restore it (mlflow runs restore --run-id ID, or mlflow "
        "experiments restore --experiment-id ID, which restores its runs), then resume the run"),
    Row("mlflow", _REQUEST, "INVALID_PARAMETER_VALUE|BAD_REQUEST|RESOURCE_ALREADY_EXISTS"
        "|RESOURCE_DOES_NOT_EXIST|ALREADY_EXISTS|NOT_FOUND|NOT_IMPLEMENTED"),
    Row("mlflow", _TRANSIENT, "TEMPORARILY_UNAVAILABLE|REQUEST_LIMIT_EXCEEDED|RESOURCE_EXHAUSTED"
        "|DEADLINE_EXCEEDED|ABORTED|CANCELLED|RESOURCE_CONFLICT|INTERNAL_ERROR|INVALID_STATE"),
    # --- S3: codes, and of answers to HEAD, which have no body, the status --------------------
    Row("s3", _SETUP, "NoCredentialsError|PartialCredentialsError", "", "no complete credentials "
        "were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (from a secret), or give the "
        "step a role"),
    Row("s3", _SETUP, "CredentialRetrievalError", "",
        "the credentials cannot be fetched; check the role or profile"),
    Row("s3", _SETUP, "RecursionError", "",
        f"the server redirects in a circle; correct {_S3_ADDRESS}"),
    Row("s3", _SETUP, "ProfileNotFound", "", "AWS_PROFILE names a profile that the files of boto3 "
        "(~/.aws/config, ~/.aws/credentials) do not have; correct or unset it"),
    Row("s3", _SETUP, "NotS3Error|ResponseParserError", "",
        f"the server does not answer as S3 does; correct {_S3_ADDRESS}"),
    Row("s3", _SETUP, "NeedsTlsError", "",
        f"the server speaks https, not http; write https:// in {_S3_ADDRESS}"),
    Row("s3", _SETUP, "", "Invalid endpoint",
        f"the address of the store is not a URL; write http://HOST:PORT or https://HOST in "
        f"{_S3_ADDRESS}"),
    Row("s3", _SETUP, "NoSuchBucket", "", f"there is no such bucket; correct the name, or "
        f"{_S3_ADDRESS}"),
    Row("s3", _REQUEST, "NoSuchKey", "", "there is no such object; correct the key"),
    Row("s3", _REQUEST, "404", "", "there is no such object or bucket; correct the name"),
    Row("s3", _SETUP, "AccessDenied", "", "may not be read or written with these credentials; "
        "grant s3:GetObject (and s3:ListBucket for a folder, s3:PutObject for an output, "
        "s3:DeleteObject for cluster.state), use other credentials, or, if the bucket is requester "
        "pays, set s3.request_payer=requester"),
    Row("s3", _SETUP, "SecondLevelDomainForbidden|PathStyleDomainForbidden", "", "the store takes "
        "addresses with the bucket in the host name only; set addressing_style = virtual under "
        "s3 = in ~/.aws/config"),
    Row("s3", _SETUP, "403", "", "is forbidden to these credentials; check them and their rights"),
    Row("s3", _SETUP, "InvalidAccessKeyId", "", "the server does not know the access key; correct "
        f"AWS_ACCESS_KEY_ID, or {_S3_ADDRESS}"),
    Row("s3", _SETUP, "SignatureDoesNotMatch", "", "the secret key is wrong; correct "
        "AWS_SECRET_ACCESS_KEY"),
    Row("s3", _SETUP, "ExpiredToken", "", "the credentials have expired; renew them"),
    Row("s3", _SETUP, "InvalidToken", "", "the session token is not valid; renew the credentials"),
    Row("s3", _SETUP, "RequestTimeTooSkewed", "", "the clock of this machine differs from the "
        "server's; set it"),
    Row("s3", _SETUP, "PermanentRedirect|AuthorizationHeaderMalformed|301", "", _S3_REGION),
    Row("s3", _REQUEST, "PreconditionFailed|412", "", _S3_CHANGED),
    Row("s3", _SETUP, "NotImplemented|501", "", "the store does not support this request, such as "
        "a copy or an upload in parts; use another store"),
    Row("s3", _TRANSIENT, "SlowDown|RequestTimeout|InternalError|ServiceUnavailable"
        # Of two writes with a condition at the same moment.
        "|ConditionalRequestConflict|OperationAborted"),
    # --- Databases: SQLSTATE, SQLite's names, and texts of connections that were refused ------
    Row("database", _SETUP, "", r"permission denied for (schema|database)", "grant the account "
        "the right to create tables there (GRANT CREATE ON SCHEMA), or name a schema of its own "
        "with ?options=-csearch_path%3DSCHEMA"),
    Row("database", _SETUP, "25006|SQLITE_READONLY.*|", r"read-only|readonly", "the database takes "
        "no writes; name the primary server instead of a replica, or let the account write"),
    Row("database", _SETUP, "28...|3D000|3F000|42501|SQLITE_(PERM|AUTH|NOTADB|CORRUPT)"),
    Row("database", _SETUP, "SQLITE_FULL|53100|", "database or disk is full|No space left",
        "the disk of the database is full; free space"),
    Row("database", _TRANSIENT, "", r"too many (connections|clients)|connection slots"
        r"|no more connections", "each process of a search holds up to 2 connections; raise the "
        "limit of the server or the account, lower search.workers, or use a pooler"),
    Row("database", _TRANSIENT, "57014", "", "statement_timeout of the account is too short for "
        "the queries of a study; raise it to 30 s"),
    Row("database", _SETUP, "", r"password authentication|no password supplied|unable to open"
        r"|no pg_hba\.conf entry|does not exist|permission denied"),
    Row("database", _TRANSIENT, "08...|40...|53...|55P03|57P0.|SQLITE_(BUSY|LOCKED|IOERR).*"),
)  # fmt: skip

_SETUP_STATUS = frozenset({301, 302, 303, 307, 308, 401, 403, 404, 405, 407, 501, 505, 511})
_TRANSIENT_STATUS = frozenset({408, 425, 429})


def find(service: Service, *, code: str = "", text: str = "") -> Row | None:
    """Return the row of an error; None when the table does not know it.

    Args:
        code: as the service or the client library names the error; empty if it has none.
        text: its message.
    """
    for row in TABLE:
        if (
            row.service in ("any", service)
            and (not row.code or re.fullmatch(row.code, code) is not None)
            and (not row.text or re.search(row.text, text) is not None)
        ):
            return row
    return None


def kind_of_status(status: int) -> ErrorKind:
    """Return the kind of an HTTP status that reports an error."""
    if status in _SETUP_STATUS:
        return ErrorKind.SETUP
    if status >= 500 or status in _TRANSIENT_STATUS:
        return ErrorKind.TRANSIENT
    return ErrorKind.REQUEST
