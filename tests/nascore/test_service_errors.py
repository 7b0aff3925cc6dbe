"""The table of errors: every kind that was met, by the service that it is of."""

import pytest

from nascore.service_errors import TABLE, ErrorKind, Service, find, kind_of_status

SETUP, REQUEST, TRANSIENT = ErrorKind.SETUP, ErrorKind.REQUEST, ErrorKind.TRANSIENT


@pytest.mark.parametrize(
    ("service", "code", "text", "kind"),
    [
        ("mlflow", "UNAUTHENTICATED", "failed with error code 401", SETUP),
        ("mlflow", "PERMISSION_DENIED", "Permission denied", SETUP),
        ("mlflow", "ENDPOINT_NOT_FOUND", "failed with error code 404 != 200", SETUP),
        ("mlflow", "INTERNAL_ERROR", "response body was not in a valid JSON format", SETUP),
        ("mlflow", "INTERNAL_ERROR", "SSLError(CERTIFICATE_VERIFY_FAILED)", SETUP),
        ("mlflow", "INTERNAL_ERROR", "SSLError([SSL: WRONG_VERSION_NUMBER])", SETUP),
        ("mlflow", "INTERNAL_ERROR", "Invalid header value b'***'", SETUP),
        ("mlflow", "INVALID_PARAMETER_VALUE", "'name' exceeds the maximum length", REQUEST),
        ("mlflow", "INVALID_PARAMETER_VALUE", "must be in the 'active' state", REQUEST),
        ("mlflow", "RESOURCE_DOES_NOT_EXIST", "Run with id=0 not found", REQUEST),
        ("mlflow", "INTERNAL_ERROR", "Max retries exceeded", TRANSIENT),
        ("mlflow", "TEMPORARILY_UNAVAILABLE", "database is locked", TRANSIENT),
        ("s3", "AccessDenied", "", SETUP),
        ("s3", "NoSuchBucket", "", SETUP),
        ("s3", "SignatureDoesNotMatch", "", SETUP),
        ("s3", "NotImplemented", "", SETUP),
        ("s3", "HTTPClientError", "Invalid header value b'AWS4'", SETUP),
        ("s3", "NoSuchKey", "", REQUEST),
        ("s3", "PreconditionFailed", "", REQUEST),
        ("s3", "SlowDown", "", TRANSIENT),
        ("s3", "ConditionalRequestConflict", "", TRANSIENT),
        ("database", "28P01", "", SETUP),
        ("database", "", "password authentication failed for user", SETUP),
        ("database", "42501", "permission denied for schema public", SETUP),
        ("database", "3D000", "", SETUP),
        ("database", "SQLITE_FULL", "database or disk is full", SETUP),
        ("database", "53300", "too many connections", TRANSIENT),
        ("database", "57P01", "terminating connection", TRANSIENT),
        ("database", "SQLITE_BUSY", "database is locked", TRANSIENT),
    ],
)
def test_known_errors(service: Service, code: str, text: str, kind: ErrorKind) -> None:
    row = find(service, code=code, text=text)
    assert row is not None
    assert row.kind is kind
    assert row.remedy or kind is not SETUP or service == "database"


def test_what_is_not_in_the_table_is_not_guessed() -> None:
    assert find("s3", code="Unheard", text="of") is None
    assert find("database", code="23505", text="duplicate key") is None


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((status, SETUP) for status in (301, 307, 401, 403, 404, 407, 501)),
        *((status, TRANSIENT) for status in (408, 429, 500, 502, 503, 504)),
        *((status, REQUEST) for status in (400, 409, 413, 422)),
    ],
)
def test_statuses(status: int, kind: ErrorKind) -> None:
    assert kind_of_status(status) is kind


def test_each_row_can_be_reached() -> None:
    """A row whose code an earlier row takes as well is dead."""
    for number, row in enumerate(TABLE):
        if row.text or not row.code.replace("|", "").isalnum():
            continue
        found = find("s3" if row.service == "any" else row.service, code=row.code.split("|")[0])
        assert found is row, number
