"""MLflow servers as they are found: prefixes, accounts, log-ins, certificates, old and slow ones.

The servers are real; `mlflow_relay` stands for the proxies before them. In each world `nas doctor`
and `nas run` are called, or the check that both of them make, and their words are compared.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow_relay import Answer, Asked, Relay, Rule, make_authority
from mlflow_server import Account, MlflowServer
from mlflow_worlds import completed, doctor, log_in, refused, run, serving, shown, without_account

Field = Callable[..., None]
pytestmark = pytest.mark.slow

LOG_IN = "<html>log in</html>"
WRITER, READER = Account("writer", "of-the-writer"), Account("reader", "of-the-reader")
TOKEN = "tok-en-of-the-steps"


@pytest.fixture(autouse=True)
def no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No account and no certificate of whoever runs the tests."""
    without_account(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A server with accounts, and an experiment `theirs` that only the writer may write."""
    folder, admin = tmp_path_factory.mktemp("guarded"), Account("admin", "of-the-admin")
    with serving(folder, admin=admin, accounts=(WRITER, READER)) as server:
        with pytest.MonkeyPatch.context() as patch:
            log_in(WRITER, patch)
            MlflowClient(server.uri).create_experiment("theirs")
        yield server


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_authority(tmp_path_factory.mktemp("authority"))


# --- behind proxies ---------------------------------------------------------------------------


def log_in_page(asked: Asked) -> Answer:
    is_page = asked.path.startswith("/login")
    return Answer(200, LOG_IN) if is_page else Answer(302, headers={"Location": "/login"})


def writes_refused(asked: Asked) -> Answer | None:
    reads = asked.method == "GET" or "search" in asked.path
    return None if reads else Answer(403, "<html>forbidden</html>")


FINAL: dict[str, tuple[str, Rule, str]] = {
    "a proxy asks for a log-in: 401": (
        "49, 53",
        lambda asked: Answer(401, LOG_IN, {"WWW-Authenticate": "Bearer"}),
        "answers 401; give the account",
    ),
    "a log-in page with status 200": (
        "52",
        lambda asked: Answer(200, LOG_IN),
        "a log-in page or another program answers in place of MLflow",
    ),
    "a redirect to a log-in page": ("52", log_in_page, "it redirects to /login"),
    "redirects in a circle": (
        "",
        lambda asked: Answer(302, headers={"Location": asked.path}),
        "the server redirects in a circle",
    ),
    "a proxy that lets reads through only": ("", writes_refused, "answers 403; give the account"),
    "a proxy that allows no PUT": (
        "",
        lambda asked: Answer(405) if asked.method == "PUT" else None,
        "answers 405",
    ),
    "http to a port of https (nginx)": (
        "",
        lambda asked: Answer(400, "The plain HTTP request was sent to HTTPS port"),
        "the server speaks https, not http",
    ),
    "a proxy on the way asks for an account: 407": (
        "",
        lambda asked: Answer(407),
        "a proxy asks for an account",
    ),
}


@pytest.mark.parametrize("trouble", FINAL)
def test_what_a_proxy_will_always_refuse(
    trouble: str, mlflow_server: MlflowServer, tmp_path: Path, field: Field
) -> None:
    line, rule, cause = FINAL[trouble]
    with Relay(mlflow_server.uri, rule=rule) as relay:
        word, ended = doctor(relay.uri), run(relay.uri, tmp_path)
    refused(word, ended, cause, tmp_path)
    field(
        area="MLflow",
        line=line,
        trouble=trouble,
        doctor=shown(word),
        run=shown(f"exit 2: {ended.message}"),
        seconds=round(ended.seconds, 1),
    )


def test_a_prefix(mlflow_server: MlflowServer, tmp_path: Path, field: Field) -> None:
    with Relay(mlflow_server.uri, prefix="/ml") as relay:
        assert doctor(relay.uri).startswith("ok")
        assert doctor(f"{relay.uri}/").startswith("ok")
        word, ended = doctor(relay.address), run(relay.address, tmp_path)
    refused(word, ended, "its path is missing in tracking.uri", tmp_path)
    field(
        area="MLflow",
        line="46, 50",
        trouble="a prefix that was forgotten",
        doctor=shown(word),
        run=shown(f"exit 2: {ended.message}"),
        seconds=round(ended.seconds, 1),
    )


def test_health_is_not_asked_and_nothing_remains(
    mlflow_server: MlflowServer, tmp_path: Path, field: Field
) -> None:
    def no_health(asked: Asked) -> Answer | None:
        return Answer(404) if asked.path == "/health" else None

    client = MlflowClient(mlflow_server.uri)
    name = "checked/a:b'c\"`"
    with Relay(mlflow_server.uri, rule=no_health) as relay:
        word = doctor(relay.uri, name)
        assert word.startswith("ok")
        assert any(asked.method == "PUT" for asked in relay.asked), "an artifact was written"
        found = client.get_experiment_by_name(name)
        assert found is not None
        assert client.search_runs([found.experiment_id]) == []
        left = [path for path in (mlflow_server.folder / "artifacts").rglob("nas-check")]
        assert left == []
        ended = run(relay.uri, tmp_path, f"tracking.experiment={name}", "registry.model=no-health")
        assert not any(asked.path == "/health" for asked in relay.asked)
    outcome = completed(ended, mlflow_server.uri, tmp_path, "no-health")
    field(
        area="MLflow",
        line="13, 51",
        trouble="no /health, and an experiment with / : and quotes",
        doctor=f"{shown(word)}; the artifact of the check is removed",
        run=outcome,
    )


# --- accounts ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("account", "cause"),
    [
        (None, "answers 401; give the account"),
        (Account("writer", "a-wrong-password"), "answers 401; give the account"),
        (
            Account("writer", f"{WRITER.password}\n"),
            "PASSWORD has a space or a line break at an end",
        ),
        (READER, "answers 403; give the account of the steps"),
    ],
    ids=["no account", "a wrong password", "a line break after the password", "may only read"],
)
def test_an_account_that_is_refused(
    account: Account | None,
    cause: str,
    guarded: MlflowServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    field: Field,
    request: pytest.FixtureRequest,
) -> None:
    if account is not None:
        log_in(account, monkeypatch)
    word = doctor(guarded.uri, "theirs")
    ended = run(guarded.uri, tmp_path, "tracking.experiment=theirs")
    refused(word, ended, cause, tmp_path)
    assert account is None or account.password.strip() not in word + ended.err
    log_in(WRITER, monkeypatch)
    assert doctor(guarded.uri, "theirs").startswith("ok")
    field(
        area="MLflow",
        line="87" if "line break" in cause else "",
        trouble=f"basic auth: {request.node.callspec.id}",
        doctor=shown(word),
        run=shown(f"exit 2: {ended.message}"),
        seconds=round(ended.seconds, 1),
    )


def test_a_model_of_somebody_else(
    guarded: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: Field
) -> None:
    log_in(WRITER, monkeypatch)
    MlflowClient(guarded.uri).create_registered_model("theirs")
    assert doctor(guarded.uri, "a", model="theirs").startswith("ok")
    log_in(READER, monkeypatch)
    word = doctor(guarded.uri, "b", model="theirs")
    ended = run(guarded.uri, tmp_path, "tracking.experiment=b", "registry.model=theirs")
    refused(word, ended, "answers 403; give the account of the steps", tmp_path)
    field(
        area="MLflow",
        trouble="an account that may not write the registered model",
        doctor=shown(word),
        run=shown(f"exit 2: {ended.message}"),
        seconds=round(ended.seconds, 1),
    )


def test_a_model_that_may_not_be_read(
    guarded: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: Field
) -> None:
    log_in(WRITER, monkeypatch)
    MlflowClient(guarded.uri).create_registered_model("hidden")
    guarded.ask(
        "POST",
        "/api/3.0/mlflow/users/permissions/grant",
        {
            "username": READER.user,
            "permission": "DENY",
            "resource_type": "registered_model",
            "resource_id": "hidden",
        },
    )
    log_in(READER, monkeypatch)
    word = doctor(guarded.uri, "c", model="hidden")
    ended = run(guarded.uri, tmp_path, "tracking.experiment=c", "registry.model=hidden")
    refused(word, ended, "refuses this account the registered model (403)", tmp_path)
    field(
        area="MLflow",
        trouble="an account that may not read the registered model",
        doctor=shown(word),
        run=shown(f"exit 2: {ended.message}"),
        seconds=round(ended.seconds, 1),
    )


def test_a_whole_run_below_a_prefix_with_an_account(
    guarded: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: Field
) -> None:
    log_in(WRITER, monkeypatch)
    with Relay(guarded.uri, prefix="/ml") as relay:
        address = f"{relay.uri}/"
        word = doctor(address, "below", model="below")
        assert word.startswith("ok tracking: "), word
        ended = run(address, tmp_path, "tracking.experiment=below", "registry.model=below")
    outcome = completed(ended, guarded.uri, tmp_path, "below")
    assert WRITER.password not in ended.out + ended.err
    field(
        area="MLflow",
        line="46, 50",
        trouble="a prefix with a slash at its end, and an account",
        doctor=shown(word),
        run=outcome,
    )


def test_a_line_break_in_a_token(
    mlflow_server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: Field
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", f"{TOKEN}\n")
    word, ended = doctor(mlflow_server.uri), run(mlflow_server.uri, tmp_path)
    refused(word, ended, "has a line break or a space at an end", tmp_path)
    assert TOKEN not in word + ended.err + ended.out
    field(
        area="MLflow",
        line="48",
        trouble="a line break after MLFLOW_TRACKING_TOKEN",
        doctor=shown(word),
        run=shown(f"exit 2: {ended.message}"),
        seconds=round(ended.seconds, 1),
    )


# --- certificates and schemes -----------------------------------------------------------------


def test_a_certificate_of_a_private_authority(
    mlflow_server: MlflowServer,
    authority: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    field: Field,
) -> None:
    trusted, certificate = authority
    with Relay(mlflow_server.uri, certificate=certificate) as relay:
        word, ended = doctor(relay.uri), run(relay.uri, tmp_path)
        refused(word, ended, "certificate is not trusted; set MLFLOW_TRACKING_SERVER", tmp_path)
        for name, value in {
            "MLFLOW_TRACKING_SERVER_CERT_PATH": str(trusted),
            "REQUESTS_CA_BUNDLE": str(trusted),
            "MLFLOW_TRACKING_INSECURE_TLS": "true",
        }.items():
            with monkeypatch.context() as patch:
                patch.setenv(name, value)
                assert doctor(relay.uri).startswith("ok"), name
        with monkeypatch.context() as patch:
            patch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(trusted))
            trusting = doctor(relay.uri), run(relay.uri, tmp_path, "registry.model=trusting")
        monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(tmp_path / "no.pem"))
        assert "which names no file here" in doctor(relay.uri)
    field(
        area="MLflow",
        line="47",
        trouble="TLS of a private authority, with MLFLOW_TRACKING_SERVER_CERT_PATH",
        doctor=shown(trusting[0]),
        run=completed(trusting[1], mlflow_server.uri, tmp_path, "trusting"),
    )
    field(
        area="MLflow",
        line="47",
        trouble="TLS of an authority that is not trusted",
        doctor=shown(word),
        run=shown(f"exit 2: {ended.message}"),
        seconds=round(ended.seconds, 1),
    )


def test_the_wrong_scheme(
    mlflow_server: MlflowServer, authority: tuple[Path, Path], tmp_path: Path, field: Field
) -> None:
    with Relay(mlflow_server.uri, certificate=authority[1]) as relay:
        plain = relay.uri.replace("https://", "http://")
        word, ended = doctor(plain), run(plain, tmp_path)
    refused(word, ended, "the server speaks https, not http", tmp_path)
    secure = mlflow_server.uri.replace("http://", "https://")
    word, ended = doctor(secure), run(secure, tmp_path)
    refused(word, ended, "the server speaks http, not https", tmp_path)
    field(
        area="MLflow",
        trouble="https:// to a server of http, and http:// to one of https",
        doctor=shown(word),
        run=shown(f"exit 2: {ended.message}"),
        seconds=round(ended.seconds, 1),
    )


@pytest.mark.parametrize("address", ["http://host:port", "http://[::1"])
def test_an_address_that_cannot_be_read(address: str, tmp_path: Path, field: Field) -> None:
    word, ended = doctor(address), run(address, tmp_path)
    refused(word, ended, "is no address", tmp_path)
    field(
        area="MLflow",
        line="77",
        trouble=f"tracking.uri={address}",
        doctor=shown(word),
        run=shown(f"exit 2: {ended.message}"),
        seconds=round(ended.seconds, 1),
    )
