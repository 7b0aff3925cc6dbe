"""Settings that contradict the run that is resumed: the difference that matters, and no other."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from components.config.schema import dumps
from pipelines.cli import main
from pipelines.config import resolve
from pipelines.local.output import settle_stores


@pytest.mark.parametrize(
    ("arguments", "problems"),
    [
        (["--method=nases"], ["method = nases: r1 is a run of random; resume it without settings"]),
        (
            ["--method=random", "--set=seed=4"],
            ["seed = 4: r1 is a run with seed = 3; resume it without settings"],
        ),
        (
            ["--method=random", "--set=seed=3", "--budget=30m"],
            ["search.budget.seconds = 1800.0: r1 is a run with search.budget.seconds = null"],
        ),
        (
            ["--method=random", "--set=seed=3", "--set=latency.runs=21", "--budget=5 children"],
            [
                "latency.runs = 21: r1 is a run with latency.runs = ",
                "search.budget.children = 5: r1 is a run with search.budget.children = 2",
            ],
        ),
        (
            ["--method=random", "--set=seed=3"],
            ["search.budget.children = 12: r1 is a run with search.budget.children = 2"],
        ),
    ],
)
def test_other_settings(
    arguments: list[str], problems: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = settle_stores(
        resolve(None, None, ["method=random", "seed=3", "search.budget.children=2"])
    )
    (tmp_path / "r1").mkdir()
    (tmp_path / "r1" / "config.json").write_text(dumps(config))
    result = CliRunner().invoke(main, ["run", "--resume", "--out=r1", *arguments])
    assert result.exit_code == 2
    lines = result.stderr.splitlines()[1:]
    assert len(lines) == len(problems), lines
    for line, problem in zip(lines, problems, strict=True):
        assert line.startswith(f"  {problem}")
        assert line.endswith("start another run with another --out")
    assert json.loads((tmp_path / "r1" / "config.json").read_text()) == json.loads(dumps(config))
    assert [path.name for path in (tmp_path / "r1").iterdir()] == ["config.json"]
