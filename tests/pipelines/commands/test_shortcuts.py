"""Options of their own for the settings that are changed most."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from components.config.parameters import PARAMETERS
from nascore.errors import Problem
from pipelines.cli import main
from pipelines.config import resolve
from pipelines.kubeflow.compiled_text import compiled_config
from pipelines.settings import Settings


def nas(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def compiled(out: Path, *arguments: str) -> dict[str, object]:
    """The configuration in the pipeline that `nas compile` wrote."""
    result = nas("compile", "--no-check", "--out", str(out), *arguments)
    assert result.exit_code == 0, result.output
    pipeline = next(yaml.safe_load_all(out.read_text()))
    found: dict[str, object] = json.loads(compiled_config(pipeline))
    return found


def test_shortcuts_are_settings(tmp_path: Path) -> None:
    chosen = {
        "--method": "nasib",
        "--data": "imagefolder:s3://bucket/a: b",  # YAML would read a mapping
        "--budget": "2h",
        "--workers": "2",
        "--seed": "7",
        "--objective": "macro_f1",
        "--image-size": "32",
        "--model": "12",  # a name, and no number
        "--experiment": "team",
        "--min-gain": "0.01",
    }
    assert chosen.keys() == {one.option for one in PARAMETERS}
    arguments = [text for pair in chosen.items() for text in pair]
    arguments += ["--set", "search.storage=env:NAS_STUDY_URL"]
    found = compiled(tmp_path / "pipeline.yaml", *arguments)
    settings = [f"{one.key}={json.dumps(chosen[one.option])}" for one in PARAMETERS]
    expected = resolve(None, None, [*settings, "search.storage=env:NAS_STUDY_URL"])
    assert found == expected.model_dump(mode="json")
    assert (expected.search.budget.seconds, expected.search.workers) == (7200, 2)
    assert expected.data.source == "imagefolder:s3://bucket/a: b"
    assert expected.registry.model == "12"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--seed=1", "--set=seed=2"), "--seed = 1: contradicts --set seed=2; give one of them"),
        (
            ("--budget=30m", "--set=search.budget.children=4"),
            "--budget = 30m: contradicts --set search.budget.children=4",
        ),
        (("--method=tpe", "--set=method=enas"), "--method = tpe: contradicts --set method=enas"),
        (
            ("--method=enas", "--method=tpe"),
            "--method = enas: contradicts --method tpe; give one of them",
        ),
        (
            ("--set=search.budget.children=3", "--set=search.budget=30m"),
            "--set = search.budget.children=3: contradicts --set search.budget=30m; give one",
        ),
        (("--budget=30x",), "search.budget = '30x': is no budget; write 30m, 2h, 90s, 64 children"),
        (("--budget=30",), "search.budget = '30': is no budget; write 30m"),
        (("--workers=two",), "search.workers = 'two': must be a whole number"),
        (("--objective=f1",), "search.objective = 'f1': must be 'accuracy', 'balanced_accuracy'"),
        (("--method=nasip",), "method = 'nasip': unknown method; did you mean 'nasib'?"),
    ],
)
def test_wrong_shortcuts_are_refused_with_all_other_problems(
    arguments: tuple[str, ...], told: str
) -> None:
    result = nas("compile", "--set=sede=1", *arguments)
    assert result.exit_code == 2
    assert told in result.stderr
    assert "sede = 1: unknown key" in result.stderr


def test_a_part_of_what_an_option_sets_as_a_whole_is_one_problem() -> None:
    result = nas("compile", "--budget=5m", "--set=search.budget.children=3")
    message = "--budget = 5m: contradicts --set search.budget.children=3; give one of them"
    assert [line.strip() for line in result.stderr.splitlines()[1:]] == [message]


def test_a_part_of_what_a_setting_sets_as_a_whole_names_that_setting() -> None:
    result = nas("compile", "--set=search.budget=5m", "--set=search.budget.children=3")
    problem = "search.budget.children = 3: search.budget is given a value as a whole by another "
    assert problem + "setting; give one of them" in result.stderr


def test_the_same_value_twice_is_no_contradiction(tmp_path: Path) -> None:
    found = compiled(tmp_path / "pipeline.yaml", "--seed=5", "--set", "seed=5")
    assert found["seed"] == 5
    found = compiled(tmp_path / "pipeline.yaml", "--seed=5", "--seed=5", "--set=seed=5")
    assert found["seed"] == 5


def test_a_setting_below_a_group_is_added_to_it(tmp_path: Path) -> None:
    settings = ("--set=promote={min_gain: 0.1}", "--set=promote.max_params=100")
    promote = compiled(tmp_path / "pipeline.yaml", *settings)["promote"]
    assert isinstance(promote, dict)
    assert (promote["min_gain"], promote["max_params"]) == (0.1, 100)


def test_the_last_set_of_a_key_counts(tmp_path: Path) -> None:
    found = compiled(tmp_path / "pipeline.yaml", "--set=seed=1", "--set=seed=2")
    assert found["seed"] == 2


def test_commands_without_options_for_single_settings_refuse_contradictions_too() -> None:
    result = nas("profile", "--set=search.budget.children=1", "--set=search.budget=5m")
    assert result.exit_code == 2
    assert "contradicts --set search.budget=5m; give one of them" in result.stderr


@pytest.mark.parametrize(
    "command",
    [(name,) for name in ("run", "retrain", "submit", "compile", "plan", "doctor")]
    + [("schedule", "create")],
)
def test_every_command_that_concerns_a_run_has_them(command: tuple[str, ...]) -> None:
    text = nas(*command, "--help").output
    assert [one.option for one in PARAMETERS if one.option not in text] == []


def test_a_contradiction_is_not_taken_for_no_setting_when_a_run_is_resumed() -> None:
    """Without settings, a run is resumed with its own configuration."""
    problem = Problem("--seed", "1", "contradicts --set seed=2; give one of them")
    wrong = Settings()
    assert not wrong
    wrong.problems = (problem,)
    assert wrong


def test_a_data_set_is_checked_with_the_seed_and_size_of_a_run() -> None:
    result = nas("check-data", "digits", "--json", "--seed=3", "--image-size=16")
    assert json.loads(result.stdout)["input"] == [1, 16, 16]
