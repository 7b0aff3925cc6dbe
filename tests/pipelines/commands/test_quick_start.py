"""Help, settings and shell completion come at once: nothing heavy is imported for them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from nascore.methods.registry import METHODS
from pipelines.cli import main
from pipelines.commands.lazy_group import LazyGroup
from pipelines.commands.setting_list import settings_of

_PROBE = """
import json, sys
from pipelines.cli import main
try:
    main(sys.argv[1:])
finally:
    heavy = {"torch", "kfp", "mlflow", "optuna", "sqlalchemy", "pandas", "boto3"}
    print("LOADED", json.dumps(sorted(heavy & sys.modules.keys())), file=sys.stderr)
"""
_COMPLETING = {"_NAS_COMPLETE": "bash_complete", "COMP_WORDS": "nas sch", "COMP_CWORD": "1"}


def cpu_s(process: list[str], environment: dict[str, str]) -> tuple[float, str, str]:
    """Processor seconds of a command, its output and its errors."""
    before = os.times()
    done = subprocess.run(
        process, capture_output=True, text=True, env={**os.environ, **environment}, timeout=60
    )
    after = os.times()
    assert done.returncode == 0, done.stderr
    used = after.children_user + after.children_system
    return used - before.children_user - before.children_system, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["--help"], {}),
        (["run", "--help"], {}),
        (["submit", "--help"], {}),
        (["config"], {}),
        (["config", "--all", "--json"], {}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_help_and_settings_import_nothing_heavy(
    arguments: list[str], environment: dict[str, str]
) -> None:
    used_s, said, told = cpu_s([sys.executable, "-c", _PROBE, *arguments], environment)
    assert "LOADED []" in told
    assert said
    assert used_s < 1.0  # 0.1 to 0.4 on an idle machine, where 0.5 is the limit


def test_completion_is_quick_and_knows_the_commands() -> None:
    command = [sys.executable, "-c", "from pipelines.cli import main; main(prog_name='nas')"]
    before = os.times()
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **_COMPLETING}
    )
    after = os.times()
    assert done.stdout == "plain,schedule\n"
    assert after.children_user - before.children_user < 0.5


def test_the_list_says_what_each_command_says_of_itself() -> None:
    """The short helps are written twice, and begin alike."""
    assert isinstance(main, LazyGroup)
    context = click.Context(main, info_name="nas")
    for name, later in main.later.items():
        command = main.get_command(context, name)
        assert command is not None
        ours, own = later.help.rstrip(".").split(), " ".join((command.help or "").split())
        assert own.split()[: len(ours[:2])] == ours[:2], f"{name}: {own}"
        assert command.name == name


def test_every_setting_has_its_row() -> None:
    rows = json.loads(CliRunner().invoke(main, ["config", "--all", "--json"]).stdout)
    by_key = {row["key"]: row for row in rows}
    assert len(by_key) == len(rows)
    assert {"key", "type", "default", "unit", "description"} == set(rows[0])
    assert by_key["search.budget.seconds"]["unit"] == "s"
    assert by_key["train.epochs"]["default"] == 40  # of the whole configuration, not of the class
    assert by_key["data.image_size"]["unit"] == "pixels"
    assert by_key["data.image_size"]["description"].endswith("Range: >= 4, <= 1,024.")
    assert by_key["data.max_train"]["description"].endswith("Range: >= 1."), "of a number or null"
    assert "Range" not in by_key["data.source"]["description"]
    assert by_key["cluster.tolerations"]["type"] == "list of {key, operator, value, effect}"
    assert "nasbench201" in by_key["search.space.name"]["type"].split("|")
    assert by_key["search.options.autoencoder.steps"]["description"].startswith("Weight updates")


def test_settings_are_those_of_the_method() -> None:
    keys = [
        row["key"]
        for row in json.loads(CliRunner().invoke(main, ["config", "tpe", "--json"]).stdout)
    ]
    options = [key for key in keys if key.startswith("search.options.")]
    assert options == ["search.options.startup_trials"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["tpee"], "did you mean 'tpe'"), (["tpe", "--all"], "lists every method")],
)
def test_wrong_methods_are_refused(arguments: list[str], told: str) -> None:
    result = CliRunner().invoke(main, ["config", *arguments])
    assert result.exit_code == 2
    assert told in result.stderr


def test_a_command_that_needs_more_than_the_client_says_how_to_get_it(tmp_path: Path) -> None:
    """torch is hidden, as where only the client is installed."""
    code = (
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'torch' else find(name, *rest)\n"
        "from pipelines.cli import main; main(['run', '--out', 'out'], prog_name='nas')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 2
    assert "-m pip install 'nas-pipelines[full] @ file://" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_every_setting_has_a_description() -> None:
    rows = settings_of(METHODS)
    assert len(rows) > 150
    assert [row["key"] for row in rows if not row["description"]] == []
