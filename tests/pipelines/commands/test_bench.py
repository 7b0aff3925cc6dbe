"""`nas bench` as a person types it."""

import itertools
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from nascore.errors import InputError
from nascore.methods.baselines.options import LocalSearchOptions
from nascore.methods.registry import METHODS
from pipelines.cli import main
from pipelines.commands.bench import read_entries


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    rows = [
        f"{a}{b}{c},{a + b + c},{90 + a}\n" for a, b, c in itertools.product(range(3), repeat=3)
    ]
    path.write_text("arch_str,valid,test\n" + "".join(rows))
    return path


def bench(table: Path, *arguments: str) -> Result:
    fixed = ["--space", "categorical", "--search-metric", "valid", "--report-metric", "test"]
    counts = ["--queries", "8", "--seeds", "4", "--jobs", "1"]
    return CliRunner().invoke(main, ["bench", "--table", str(table), *fixed, *counts, *arguments])


def test_json_is_all_that_goes_to_standard_output(table: Path) -> None:
    result = bench(table, "--methods", "random,local-search", "--json")
    assert result.exit_code == 0, result.output
    made = json.loads(result.stdout)
    assert made["version"] == 1
    assert [one["method"] for one in made["results"]] == ["random", "local-search"]
    for one in made["results"]:
        for key in ("mean", "std", "median", "ci95", "curve", "seconds_per_suggestion"):
            assert key in one
    assert {(test["method"], test["against"]) for test in made["tests"]} == {
        ("random", "local-search"),
        ("local-search", "random"),
    }
    for test in made["tests"]:
        assert set(test) >= {"difference", "p", "p_corrected", "test"}


def test_a_table_for_people_and_files(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = bench(table, "--methods", "random,tpe", "--out", str(out))
    assert result.exit_code == 0, result.output
    assert "| tpe | random |" in result.stdout
    assert sorted(path.name for path in out.iterdir()) == ["bench.json", "bench.md", "bench.svg"]
    again = bench(table, "--methods", "random", "--out", str(out))
    assert again.exit_code == 2
    assert "nothing is overwritten" in again.stderr


def test_variants_are_entries_of_their_own(table: Path) -> None:
    result = bench(
        table,
        *("--methods", "random", "--json"),
        *("--variant", "steepest=local-search:improvement=best,isomorphism=false"),
    )
    assert result.exit_code == 0, result.output
    one = json.loads(result.stdout)["results"][1]
    assert one["method"] == "steepest"
    assert one["options"] == {"improvement": "best", "isomorphism": False}


def test_all_that_is_wrong_is_told_at_once(table: Path, tmp_path: Path) -> None:
    table.write_text(table.read_text() + "000,1,1\n333,many,1\n")
    (tmp_path / "file").touch()
    result = bench(
        table,
        *("--methods", "randon,tpe,tpe", "--variant", "x", "--variant", "y=tpe:startup=3"),
        *("--seeds", "0", "--queries", "-1", "--out", str(tmp_path / "file")),
    )
    assert result.exit_code == 2
    assert result.stdout == ""
    for part in (
        "--methods = 'randon': unknown method; did you mean 'random'?",
        "--variant = x: write LABEL=METHOD:KEY=VALUE",
        "--variant y: startup",
        "tpe: is named twice",
        "--seeds = 0: must be 1 or more",
        "--queries = -1: must be 1 or more",
        "--out",
        "line 29, column arch_str = '000': is on line 2 already",
        "line 30, column valid = 'many': is no finite number",
    ):
        assert part in result.stderr, part
    assert "Traceback" not in result.stderr


def test_the_number_of_queries_is_told_with_the_rest(table: Path) -> None:
    result = bench(table, "--methods", "random", "--queries", "28", "--jobs", "0")
    assert result.exit_code == 2
    assert "--queries = 28: must be 1 to 27" in result.stderr
    assert "--jobs = 0: must be 1 or more" in result.stderr


def test_entries_carry_checked_options() -> None:
    entries = read_entries(" random ,tpe", ("a=local-search", "b=local-search:improvement=best"))
    assert [entry.label for entry in entries] == ["random", "tpe", "a", "b"]
    assert entries[0].options == METHODS["random"].options()
    assert entries[3].options == LocalSearchOptions(improvement="best")
    with pytest.raises(InputError, match="name one method or more"):
        read_entries(" , ", ())
