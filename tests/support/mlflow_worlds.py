"""What `nas doctor` and `nas run` say about an MLflow server, for the tests of field troubles."""

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from field_commands import TINY, Ended, nas, soon_s, together
from mlflow import MlflowClient
from mlflow_server import Account, MlflowServer

from components.config.schema import Config, parse
from components.tracking.reading import num_unsent
from pipelines.doctor.service_checks import check_tracking

ACCOUNT = ("USERNAME", "PASSWORD", "TOKEN", "AUTH", "SERVER_CERT_PATH", "INSECURE_TLS", "URI")
SHOWN = 380


def without_account(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the account and the certificate of whoever runs the tests."""
    for name in ACCOUNT:
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)
    monkeypatch.setenv("HOME", str(home))


@contextlib.contextmanager
def serving(
    folder: Path, *, copied: Path | None = None, accounts: tuple[Account, ...] = (), **options: Any
) -> Iterator[MlflowServer]:
    """Yield a server that runs while the block does.

    Args:
        folder: for its log, store and artifacts; made if it is missing.
        copied: an empty store, which is quicker to copy than to make.
        accounts: that are added to a server with `admin`.
        options: of `MlflowServer`.
    """
    folder.mkdir(exist_ok=True)
    if copied is not None:
        shutil.copyfile(copied, folder / "mlflow.db")
    server = MlflowServer(folder, **options)
    try:
        server.start()
        for account in accounts:
            server.add_account(account)
        yield server
    finally:
        server.stop()


def log_in(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in account.environment().items():
        monkeypatch.setenv(name, value)


def doctor(uri: str, experiment: str = "nas", **registry: str) -> str:
    """The word of `nas doctor` on the tracking store, in one line."""
    tracking = {"uri": uri, "experiment": experiment}
    config: Config = parse({"method": "random", "tracking": tracking, "registry": registry})
    found = check_tracking(config)
    return f"{found.state} tracking: {found.seen} {found.advice}".strip()


def settings_of(uri: str, *settings: str) -> tuple[str, ...]:
    """Return the settings of a small run on a server; later ones replace earlier ones."""
    least = ("search.budget.children=1", f"tracking.uri={uri}")
    return together(*TINY, *least, *settings)


def run(uri: str, folder: Path, *settings: str, out: str = "r1") -> Ended:
    return nas("run", "--out", out, folder=folder, settings=settings_of(uri, *settings))


def completed(ended: Ended, server: str, folder: Path, model: str, out: str = "r1") -> str:
    """Check that a run has ended well and that the server has all of it.

    Args:
        ended: the command.
        server: address of the server without anything before it.
        folder: where the command was called.
        model: registered model of the run.
        out: output folder of the run.

    Returns:
        Exit status and warnings, as a row shows them.
    """
    assert ended.status == 0, ended.out + ended.err
    client = MlflowClient(server)
    champion = client.get_model_version_by_alias(model, "champion")
    of_pipeline = client.get_run(champion.run_id)
    found = client.search_runs([of_pipeline.info.experiment_id])
    assert {run.info.status for run in found} == {"FINISHED"}
    assert unsent(folder / out) == 0
    assert not list((folder / out).rglob("rejected.jsonl"))
    said = [line.strip() for line in (ended.out + ended.err).splitlines() if "warning:" in line]
    return shown(". ".join([f"exit 0: champion {model}/{champion.version}", *said]))


def unsent(output: Path) -> int:
    """Return the number of events that a run has kept."""
    return sum(num_unsent(target.parent) for target in output.rglob("target.json"))


def refused(word: str, ended: Ended, cause: str, folder: Path) -> None:
    """Doctor and run say the same, before anything is made or trained."""
    assert word.startswith("problem tracking: "), word
    assert cause in word
    assert ended.status == 2, ended.err
    assert cause in ended.message, ended.err
    assert ended.seconds < soon_s()
    assert "Running" not in ended.out
    assert not (folder / "r1").exists()


def shown(text: str) -> str:
    """A message without the ports, which differ between runs."""
    return re.sub(r"127\.0\.0\.1:\d+", "HOST", text)[:SHOWN]
