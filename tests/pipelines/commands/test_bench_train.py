"""`nas bench train` as a person types it."""

import json

import pytest
from click.testing import CliRunner, Result

from pipelines.cli import main

SMALL = (
    "--networks",
    "residual",
    "--batch-size",
    "16",
    "--seconds",
    "0.5",
    "--recipe",
    "quick",
    "--switches",
    "ema",
)


def bench_train(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["bench", "train", *arguments])


def test_json_has_the_loops_and_their_ratios_to_the_bare_loop() -> None:
    result = bench_train(*SMALL, "--json")
    assert result.exit_code == 0, result.output
    rows = {row["what"]: row for row in json.loads(result.stdout)}
    assert set(rows) >= {
        "residual: bare loop",
        "residual: training loop",
        "residual: torchvision recipe",
        "residual: training loop, recipe quick",
        "residual: training loop, ema",
    }
    for row in rows.values():
        assert row["images_per_s"] > 0
        # Short turns on a busy machine: only an order of magnitude is certain.
        assert 0.2 < row["ratio_to_bare"] < 5
        assert row["cpu_ms_per_image"] > 0


def test_a_page_for_people_names_date_hardware_and_load() -> None:
    result = bench_train(*SMALL, "--seconds", "0.1")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("# Throughput of training\n")
    assert "    nas bench train --seconds 0.1 --networks residual --batch-size 16 " in result.stdout
    for part in ("UTC", "load average", "PyTorch", "| residual | bare loop |", "| 1.00 |"):
        assert part in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--networks", "vgg"], "--networks = vgg: choose of residual, resnet18"),
        (["--networks", ","], "--networks = ,: choose of residual, resnet18"),
        (["--recipe", "best"], "--recipe = best: choose of paper, quick, strong, or none"),
        (["--switches", "cutmix,dropout"], "--switches = cutmix,dropout: choose of cutout, "),
        (["--seconds", "0"], "--seconds = 0.0: must be a number from 0.1"),
        (["--batch-size", "1"], "--batch-size = 1: must be"),
        (["--device", "tpu"], "--device = tpu: "),
    ],
)
def test_wrong_input_is_one_message(arguments: list[str], message: str) -> None:
    result = bench_train(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_the_command_stands_in_the_help_of_bench() -> None:
    result = CliRunner().invoke(main, ["bench", "--help"])
    assert "nas bench train" in result.stdout
    assert "nas bench suggest" in result.stdout
