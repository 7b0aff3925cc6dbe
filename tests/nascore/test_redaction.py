"""Secrets are taken out of what is shown, whatever they are written into; the rest stays."""

import pickle

import pytest

from nascore.errors import InputError, Problem, ResourceUnavailable
from nascore.redaction import redact, redact_setting
from nascore.service_errors import TABLE, Row

SAME = [
    "http://host:5000/a@b",
    "sqlite:////data/mlflow.db",
    "postgresql://me@db/studies",
    "s3://bucket/a@b.npz",
    "npz:s3://bucket/some/key:with/colons.npz",
    "env:NAS_STUDY_URL",
    "search.space.channels_per_token=2",
    "ghcr.io/team/nas@sha256:0123",
    "write to me@example.org",
    "a password is needed",
    "write postgresql://USER:PASSWORD@HOST/NAME",
    "basic authentication, Basic search, a Bearer token",
    "Basic access to basic networks",
]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:pw@db:5432/mlflow", "postgresql://me:***@db:5432/mlflow"),
        ("postgresql+psycopg2://me:p@w:x/y@db/mlflow", "postgresql+psycopg2://me:***@db/mlflow"),
        ("http://me:pw@host", "http://me:***@host"),
        ("models:/net@champion", "models:/net@champion"),
        ("https://token@host:5000/x", "https://***@host:5000/x"),
        ("mssql://h/d?user=me&password=pw&a=b", "mssql://h/d?user=me&password=***&a=b"),
        ("no answer from http://me:pw@h:1/api now", "no answer from http://me:***@h:1/api now"),
        ("npz:s3://AKIA:pw/pw+pw@bucket/key.npz", "npz:s3://***@bucket/key.npz"),
        ("s3://pw@bucket/key", "s3://***@bucket/key"),
        ("s3:/pw@bucket/key", "s3:/***@bucket/key"),
        ("https://h/x?X-Amz-Signature=pw&a=1", "https://h/x?X-Amz-Signature=***&a=1"),
        ("https://h/x?api_key=pw", "https://h/x?api_key=***"),
        ("host=db user=me password=pw dbname=x", "host=db user=me password=*** dbname=x"),
        ("https://h/x?sv=1&sig=pw%2B", "https://h/x?sv=1&sig=***"),
        (
            "https://h/b/k?X-Amz-Credential=AKIA%2Fs3&X-Amz-Security-Token=t&X-Amz-Signature=0f",
            "https://h/b/k?X-Amz-Credential=***&X-Amz-Security-Token=***&X-Amz-Signature=***",
        ),
        (
            "https://b.s3.example.org/k?AWSAccessKeyId=AKIAX&Expires=17&Signature=ab%2Fc%3D",
            "https://b.s3.example.org/k?AWSAccessKeyId=***&Expires=17&Signature=***",
        ),
        (
            r"https://h/k?Expires=1\u0026Signature=ab%2Fc\u0026X-Amz-Security-Token=tok\u0026a=b",
            r"https://h/k?Expires=1\u0026Signature=***\u0026X-Amz-Security-Token=***\u0026a=b",
        ),
        ("https://h/x?a=b&amp;Signature=ab%3D", "https://h/x?a=b&amp;Signature=***"),
        *(
            pair
            for end in ("\n", "\r", "\r\n")
            for pair in (
                (f"postgresql://me:p-w{end}@db/x", "postgresql://me:***@db/x"),
                (f"postgresql://me:p@w{end}@db/x", "postgresql://me:***@db/x"),
                (f"to http://me:p{end}w@host/x now", "to http://me:***@host/x now"),
                (f"https://token{end}@host/x", "https://***@host/x"),
                (f"http://host:5000/x{end}me@db", f"http://host:5000/x{end}me@db"),
                (f"value b'Bearer tok{repr(end)[1:-1]}'", "value b'Bearer ***'"),
                (f"Bearer tok{end} was", f"Bearer ***{end} was"),
                (f"Authorization: Basic bWU6c2VjcmV0{end}", f"Authorization: ***{end}"),
                (f"https://h/k?X-Amz-Signature=0f{end}", f"https://h/k?X-Amz-Signature=***{end}"),
            )
        ),
        ("Authorization: AWS AKIAX:ab/cd=", "Authorization: ***"),
        ("x-amz-security-token: FwoGZX/IvYX=", "x-amz-security-token: ***"),
        ("{'X-Amz-Security-Token': 'FwoGZX'}", "{'X-Amz-Security-Token': '***'}"),
        ("PRIVATE-TOKEN: glpat-x1", "PRIVATE-TOKEN: ***"),
        ("Cookie: session=abc; other=def", "Cookie: ***"),
        ("Invalid header value b'Bearer tok123\\n'", "Invalid header value b'Bearer ***'"),
        ("sent Bearer eyJ.a-b_c.d/e=", "sent Bearer ***"),
        ("header Basic bWU6c2VjcmV0 refused", "header Basic *** refused"),
        ("{'Authorization': 'Basic bWU6c2VjcmV0'}", "{'Authorization': '***'}"),
        ("Authorization: Bearer tok123 was sent", "Authorization: *** was sent"),
        (
            "b'AWS4-HMAC-SHA256 Credential=AKIA/20260101/us-east-1/s3/aws4_request, Signature=0f'",
            "b'AWS4-HMAC-SHA256 Credential=*** Signature=***",
        ),
        *((text, text) for text in SAME),
    ],
)
def test_secrets_are_redacted_and_nothing_else(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert redact(shown) == shown


@pytest.mark.parametrize(
    ("name", "value", "text", "shown"),
    [
        ("MLFLOW_TRACKING_TOKEN", "tok-12345\n", "it got tok-12345 here", "it got *** here"),
        ("AWS_SECRET_ACCESS_KEY", "abc/def+ghi\n", "'abc/def+ghi\\n'", "'***\\n'"),
        ("AWS_SECRET_ACCESS_KEY", "first-half\nsecond-half", "second-half", "***"),
        ("PGPASSWORD", "correct horse battery", "is correct horse battery", "is ***"),
        ("NAS_KFP_TOKEN_FILE", "/var/run/token-of-kfp", "/var/run/token-of-kfp", None),
        ("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE", "AKIAEXAMPLE", None),
        ("MLFLOW_TRACKING_PASSWORD", "net", "a network", None),
    ],
)
def test_values_of_secret_variables_are_redacted_anywhere(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, text: str, shown: str | None
) -> None:
    monkeypatch.setenv(name, value)
    assert redact(text) == (text if shown is None else shown)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("postgresql://me:p w@db/x", "postgresql://***@db/x"),
        ("me:pw@db/x", "***@db/x"),
        ("http://me:pw@host", "http://me:***@host"),
        ("models:/net@champion", "models:/net@champion"),
        *((value, value) for value in SAME),
    ],
)
def test_of_a_single_value_more_is_known(value: str, shown: str) -> None:
    assert redact_setting(value) == shown


@pytest.mark.parametrize("row", [row for row in TABLE if row.remedy], ids=lambda row: row.code[:20])
def test_advice_is_not_redacted(row: Row) -> None:
    assert redact(row.remedy) == row.remedy


def test_a_problem_never_shows_a_secret_whoever_makes_it() -> None:
    problem = Problem("tracking.uri", "http://me:pw@host", "no answer from http://me:pw@host")
    assert str(problem) == "tracking.uri = http://me:***@host: no answer from http://me:***@host"


def test_an_error_stays_what_it_is_on_its_way_to_another_process() -> None:
    error = ResourceUnavailable.of("data.source", "x", "is unreachable")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is ResourceUnavailable
    assert isinstance(again, InputError)
    assert again.problems == error.problems


@pytest.mark.parametrize("name", ["PWD", "OLDPWD"])
def test_the_folder_of_the_shell_is_no_secret(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "/home/anna/work")
    assert redact_setting("sqlite:////home/anna/work/runs/mlflow.db").endswith(
        "work/runs/mlflow.db"
    )
