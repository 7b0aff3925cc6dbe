"""The `nas` command against the stand-in for KFP, as tests call it."""

import json
from typing import Any

from click.testing import CliRunner, Result
from kfp_http import Request

from pipelines.cli import main

IMAGE = "--image=repo/nas:1.2"
TRACKED = "--set=tracking.uri=http://mlflow.invalid:5000"
BASE = ("submit", IMAGE, TRACKED)
SEARCH = (*BASE, "--set=method=random", "--set=seed=7")
SCHEDULE = ("schedule", "create", IMAGE, TRACKED, "--name=weekly", "--cron=0 0 3 * * 1")
QUICK = "--poll=0.1"


def with_store(uri: str, command: tuple[str, ...]) -> tuple[str, ...]:
    """Return a command with another MLflow store."""
    return tuple(f"--set=tracking.uri={uri}" if one == TRACKED else one for one in command)


def nas(*arguments: str) -> Result:
    result = CliRunner().invoke(main, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result


def done(*arguments: str) -> Any:
    """What a command that ends well prints as JSON: nothing else is on standard output."""
    result = nas(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def refused(*arguments: str, status: int = 2) -> str:
    result = nas(*arguments)
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    return result.stderr


def only(requests: list[Request]) -> Request:
    (request,) = requests
    return request
