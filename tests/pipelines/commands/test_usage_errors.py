"""Command lines that click refuses: the same form as all other messages, and exit status 2."""

import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipelines.cli import main


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("schedul", "COMMAND = schedul: unknown command; did you mean 'schedule'?"),
        ("x", "COMMAND = x: unknown command; see `nas --help`"),
        ("schedule crate", "COMMAND = crate: unknown command; did you mean 'create'?"),
        ("--bogus", "--bogus: nas has no such option; see `nas --help`"),
        ("run --buget=3", "--buget: nas run has no such option; did you mean '--budget'"),
        ("run --set", "--set: needs a value; write --set KEY.PATH=VALUE; see `nas run --help`"),
        ("run --resume=1", "--resume: takes no value; write --resume; see `nas run --help`"),
        ("status", "RUN: is missing; write nas status RUN"),
        ("clean-state", "--older-than: is missing; write nas clean-state --older-than DAYS"),
        ("ui --port=x", "--port = x: must be a whole number from 1 to 65535; see `nas ui --help`"),
        ("ui --port=0", "--port = 0: must be a whole number from 1 to 65535; see `nas ui --help`"),
        ("compile --kind=x", "--kind = x: is not one of 'search', 'retrain'"),
        ("rollback a b", "command line = b: is more than nas rollback takes; write a value with"),
    ],
)
def test_a_wrong_command_line(arguments: str, message: str) -> None:
    result = CliRunner().invoke(main, arguments.split(), prog_name="nas")
    assert result.exit_code == 2
    title, problem = result.stderr.splitlines()
    starts = arguments.startswith("run")
    assert title == f"The input is wrong{'; nothing was started' if starts else ''}:"
    assert problem.startswith(f"  {message}")
    assert not result.stdout


@pytest.mark.parametrize("arguments", [[], ["schedule"]])
def test_a_group_without_a_command_prints_its_help(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, arguments)
    assert "Commands:" in result.output
    assert "The input is wrong" not in result.output


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["compile", "--image", "r/i:1\r"], r"--image = r/i:1\r: "),
        (["compile", "--set", "data.source=foo\r"], r"data.source = foo"),
        (["compile", "--set", "se\red=1"], r"se\red = 1: "),
        (["compile", "--preset", "quick\r"], r"--preset = quick\r: "),
        (["compile", "--preset", "\x1b[31mred"], r"--preset = \x1b[31mred: "),
        (["run\r"], r"COMMAND = run\r: "),
        (["status", "--host", "http://h:1\r", "x"], r"--host = http://h:1\r: holds a space or a"),
    ],
)
def test_control_characters_are_visible(
    arguments: list[str], shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, arguments, prog_name="nas")
    assert result.exit_code == 2, result.output
    assert shown in result.stderr
    assert not set(result.stderr) & set("\r\x1b")


def test_a_port_that_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(main, ["ui", f"--port={port}"])
    assert result.exit_code == 2
    assert f"--port = {port}: is taken by another program; end that program, or " in result.stderr
