"""`nas profile` as a person types it."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from nascore.latency import op_profiler, space_profile
from nascore.latency.table import OperationTable
from pipelines.cli import main

QUICK = {
    "latency.device": "cpu",
    "latency.threads": 1,
    "latency.warmup_runs": 0,
    "latency.runs": 20,
}
SPACES: dict[str, dict[str, Any]] = {
    "mobile": {
        "search.space.name": "mobile",
        "search.space.stages": "[[8,1,1],[8,1,2]]",
        "search.space.stem_channels": 8,
        "search.space.head_channels": 16,
    },
    "nasbench201": {
        "search.space.name": "nasbench201",
        "search.space.final_channels": 4,
        "search.space.final_cells_per_stage": 1,
    },
    "chain": {"search.space.name": "chain", "search.space.num_layers": 2},
}


@pytest.fixture(autouse=True)
def few_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of few networks, also where the machine is busy."""
    monkeypatch.setattr(space_profile, "NUM_MEASURED", 4)
    monkeypatch.setattr(op_profiler, "_PATIENCE", 1)


def profile(out: Path, settings: dict[str, Any], *arguments: str) -> Result:
    given = [f"--set={key}={value}" for key, value in {**QUICK, **settings}.items()]
    command = ["profile", *given, "--architectures=10", f"--out={out}", *arguments]
    return CliRunner().invoke(main, command)


@pytest.mark.parametrize("name", SPACES)
def test_a_table_and_its_check(name: str, tmp_path: Path) -> None:
    out = tmp_path / "table.json"
    result = profile(out, SPACES[name], "--image=1x8x10", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["space"].startswith(name)
    assert (found["channels"], found["size"], found["num_classes"]) == (1, 8, 10)
    assert (found["threads"], found["phase"], found["table"]) == (1, "final", str(out))
    assert len(found["networks"]) == 10
    assert {"spearman", "mean_absolute_error", "disturbed", "load", "date"} <= found.keys()
    table = OperationTable.from_dict(json.loads(out.read_text()))
    assert table.made_for.space == found["space"]


def test_what_a_person_reads(tmp_path: Path) -> None:
    out = tmp_path / "table.json"
    out.write_text("an older one")
    result = profile(out, SPACES["mobile"])  # the image of the data, digits
    assert result.exit_code == 0, result.output
    assert "images     1x8x8, batch 1, 10 classes" in result.stdout
    assert ", 1 thread\n" in result.stdout
    assert "10 other networks: Spearman" in result.stdout
    assert "ms, block      k3e6" in result.stdout
    assert "8->4, 8->8" in result.stdout  # the second block
    assert result.stdout.endswith(f"Wrote {out}.\n")
    OperationTable.from_dict(json.loads(out.read_text()))


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    arguments = ("--image=3x32", "--architectures=9")
    result = profile(tmp_path / "none" / "table.json", {"latency.runs": 3}, *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    for part in (
        "latency.runs = 3:",
        "--image = 3x32: write CHANNELSxSIZExCLASSES",
        "--architectures = 9: must be 10 or more",
        "--out",
        "its folder does not exist",
    ):
        assert part in result.stderr


@pytest.mark.parametrize("image", ["0x8x10", "3x-8x10", "3X32X10", "3x32x10x1", "3x32x", ""])
def test_an_image_that_is_none(image: str, tmp_path: Path) -> None:
    result = profile(tmp_path / "table.json", {}, f"--image={image}")
    assert result.exit_code == 2
    assert "--image" in result.stderr


def test_data_that_is_not_there(tmp_path: Path) -> None:
    result = profile(tmp_path / "t.json", {"data.source": f"npz:{tmp_path / 'none.npz'}"})
    assert result.exit_code == 2
    assert "none.npz" in result.stderr
    assert not (tmp_path / "t.json").exists()


def test_several_images_at_a_time_are_for_other_spaces(tmp_path: Path) -> None:
    several = {"latency.batch_size": 2}
    refused = profile(tmp_path / "t.json", {**SPACES["mobile"], **several}, "--image=1x8x10")
    assert refused.exit_code == 2
    assert "latency.batch_size = 2" in refused.stderr
    made = profile(tmp_path / "t.json", {**SPACES["nasbench201"], **several}, "--image=1x8x10")
    assert made.exit_code == 0, made.output
    assert "batch 2" in made.stdout
