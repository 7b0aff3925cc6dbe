"""`nas plan` as a person types it."""

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pipelines.cli import main

SMALL = {
    "method": "nasib",
    "data.max_train": 400,
    "search.space.num_nodes": 1,
    "search.space.num_stages": 1,
    "search.space.search_channels": 4,
}


def plan(*arguments: str, **settings: Any) -> Result:
    given = [f"--set={key}={value}" for key, value in {**SMALL, **settings}.items()]
    return CliRunner().invoke(main, ["plan", *given, *arguments])


def test_a_budget_of_steps_needs_no_clock() -> None:
    result = plan("--json", **{"search.budget.steps": 400})
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["steps"], found["warmup_steps"], found["decisions"]) == (400, 40, 360)
    assert (found["seconds"], found["step_s"]) == (None, None)
    assert found["exploring_share"] == pytest.approx(0.2505, abs=1e-3)
    assert found["milestones"]["dilation"] == [251, 400]
    assert found["epochs"] == pytest.approx(400 / (found["num_images"] // 2 // 32 + 1), rel=0.2)
    assert found["candidates"] == 52
    assert "48 of 96" in found["dropped"]


@pytest.mark.parametrize(
    ("unit", "amount", "seconds"), [("seconds", 60, 60), ("gpu_hours", 36, 129600)]
)
def test_a_budget_of_time_is_turned_into_steps_by_measuring(
    unit: str, amount: int, seconds: int
) -> None:
    result = plan("--json", **{f"search.budget.{unit}": amount})
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    before, after = found["step_s"]
    assert 0 < before < after
    # Steps are whole, and on a busy machine sixty seconds hold few of them.
    assert found["seconds"] == pytest.approx(seconds, rel=0.01, abs=4 * after)
    expected = 0.1 * seconds / before + 0.9 * seconds / after
    assert found["steps"] == pytest.approx(expected, rel=0.01, abs=4)


def test_a_person_reads_it_in_lines() -> None:
    result = plan(**{"search.budget.gpu_hours": 36})
    assert result.exit_code == 0, result.output
    for word in ("steps", "epochs", "exploration", "milestones", "excluded", "36 gpu_hours"):
        assert word in result.stdout


def test_wrong_input_is_one_message() -> None:
    result = plan(**{"search.budget.seconds": 1e-6})
    assert result.exit_code == 2
    assert "smaller than one step" in result.stderr
    result = plan(**{"search.budget.steps": 0})
    assert result.exit_code == 2
    assert "search.budget.steps" in result.stderr


def test_a_method_without_a_plan_names_those_with_one() -> None:
    result = CliRunner().invoke(main, ["plan", "--method", "random"])
    assert result.exit_code == 2
    assert "method = random: random has no plan, since its search has no schedule" in result.stderr
    assert result.stderr.rstrip().endswith("methods with one: nasib")
