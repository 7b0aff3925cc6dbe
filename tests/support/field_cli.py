"""Commands of `nas` in the process of the test, without the seconds in which another one imports
its modules."""

from pathlib import Path

from click.testing import CliRunner

from pipelines.cli import main

CLUSTER = ("--image=r/i:1", "--set=tracking.uri=http://mlflow.invalid:5000", "--set=method=random")


def nas(*arguments: str) -> tuple[int, str, str]:
    """Return exit status, standard output and standard error of a command."""
    ended = CliRunner().invoke(main, list(arguments))
    assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
    assert "Traceback" not in ended.output
    return ended.exit_code, ended.stdout, ended.stderr


def refused(*arguments: str) -> str:
    """Return the problems that a command reports, in one line; nothing is written."""
    before = sorted(Path.cwd().rglob("*"))
    status, _, err = nas(*arguments)
    assert status == 2, err
    assert sorted(Path.cwd().rglob("*")) == before
    return " ".join(
        line.strip() for line in err.partition("The input is wrong")[2].splitlines()[1:]
    )
