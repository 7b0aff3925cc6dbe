"""Settings, packages, model card and metrics of the network in int8."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.config.schema import parse
from components.steps.int8_section import metrics, section
from components.steps.prepare_data import _check_stores as check_stores
from nascore.errors import InputError
from nascore.quantization.int8 import Candidate, Int8Result
from nascore.quantization.onnx_network import export
from nascore.spaces.base import ImageShape
from nascore.training.final_model import DeployedModel

PROTOCOL = {
    "device": "a CPU",
    "threads": 2,
    "batch_size": 4,
    "runs": 200,
    "warmup_runs": 20,
    "torch_version": "2.14",
    "onnxruntime_version": "1.32",
    "date": "2026-01-02",
}
STATIC = Candidate(
    kind="static", valid_score=0.89, valid_drop=0.01, latency_ms=0.5, bytes=1_234_567
)
DYNAMIC = Candidate(
    kind="dynamic", valid_score=0.9, valid_drop=0.0, latency_ms=3.5, bytes=1_200_000
)
OFFERED = Int8Result(
    offered=True,
    why="Int8 (static) loses 0.0100 of the validation score.",
    kind="static",
    test_accuracy=0.905,
    valid_score=0.89,
    valid_drop=0.01,
    latency_ms=0.5,
    fp32_latency_ms=1.5,
    fp32_onnx_latency_ms=0.75,
    bytes=1_234_567,
    fp32_bytes=4_000_000,
    candidates=(STATIC, DYNAMIC),
    protocol=PROTOCOL,
)


def result_with(int8: Int8Result | None) -> dict[str, Any]:
    return {
        "test_accuracy": 0.91,
        "valid_score": 0.9,
        "data": {"channels": 1, "size": 8},
        "int8": None if int8 is None else int8.to_dict(),
    }


def test_the_card_has_both_networks_with_their_measurements() -> None:
    text = "\n".join(section(result_with(OFFERED)))
    for line in (
        "Int8 (static) loses 0.0100 of the validation score.",
        "| fp32, torch | 91.00% | 0.9000 | 1.50 ms |  |",
        "| fp32, onnxruntime | 91.00% | 0.9000 | 0.750 ms | 4,000,000 |",
        "| int8 static, onnxruntime (offered) | 90.50% | 0.8900 | 0.500 ms | 1,234,567 |",
        "| int8 dynamic, onnxruntime | not measured | 0.9000 | 3.50 ms | 1,200,000 |",
        "Median latency of a batch of 4 on a CPU, CPU threads: 2; torch 2.14, onnxruntime 1.32",
    ):
        assert line in text, line


def test_the_code_in_the_card_runs_the_file(tmp_path: Path) -> None:
    lines = section(result_with(OFFERED))
    code = lines[lines.index("```python") + 1 : lines.index("```")]
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    statistics = type("Statistics", (), {"mean": [0.5], "std": [0.25]})()
    deployed = DeployedModel(network, statistics).eval()
    export(deployed, ImageShape(1, 8, 3), tmp_path / "model-int8.onnx")  # same input and output
    done = subprocess.run(
        [sys.executable, "-c", "\n".join([*code, "print(logits.tolist())"])],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    expected = deployed(torch.zeros(1, 1, 8, 8)).detach()
    np.testing.assert_allclose(json.loads(done.stdout), expected, rtol=1e-4)


def test_a_network_that_is_not_offered_has_its_reason_and_no_code() -> None:
    lines = section(result_with(Int8Result(offered=False, why="It was not quantised: no graph.")))
    assert lines == ["It was not quantised: no graph.", "", "It is not offered."]
    assert metrics(result_with(Int8Result(offered=False, why="no"))) == {"int8.offered": 0.0}


def test_nothing_is_said_where_no_network_in_int8_was_asked_for() -> None:
    assert section(result_with(None)) == section({}) == []
    assert metrics(result_with(None)) == {}


def test_metrics_are_the_numbers_of_the_result() -> None:
    assert metrics(result_with(OFFERED)) == {
        "int8.offered": 1.0,
        "int8.test_accuracy": 0.905,
        "int8.valid_score": 0.89,
        "int8.valid_drop": 0.01,
        "int8.latency_ms": 0.5,
        "int8.fp32_latency_ms": 1.5,
        "int8.fp32_onnx_latency_ms": 0.75,
        "int8.bytes": 1_234_567.0,
        "int8.fp32_bytes": 4_000_000.0,
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"promote": {"int8_max_drop": 1.0}}, "must be less than 1"),
        ({"promote": {"int8_max_drop": -0.1}}, "must be greater than or equal to 0"),
        ({"promote": {"int8_max_drop": "much"}}, "must be"),
        (
            {"method": "instanas", "promote": {"int8_max_drop": 0.01}},
            "networks of instanas send each image along a path of its own and have no single graph",
        ),
        (
            {"method": "auto-meta", "promote": {"int8_max_drop": 0.01}},
            "networks of auto-meta learn the classes of each task and have no single graph",
        ),
    ],
)
def test_a_wrong_margin_and_networks_without_one_graph_are_refused(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError) as raised:
        parse({"method": "random", **settings})
    found = {one.key: one.message for one in raised.value.problems}
    assert message in found["promote.int8_max_drop"]


def test_a_missing_package_is_refused_in_the_first_step(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # as if it were not installed
    tracking = {"uri": f"sqlite:///{tmp_path}/mlflow.db"}
    check_stores(parse({"method": "random", "tracking": tracking}))
    config = parse({"method": "random", "tracking": tracking, "promote": {"int8_max_drop": 0.01}})
    with pytest.raises(InputError) as raised:
        check_stores(config)
    (problem,) = raised.value.problems
    assert (problem.key, problem.value) == ("promote.int8_max_drop", "0.01")
    assert problem.message.startswith("needs onnxruntime; install with `")
    assert "-m pip install onnxruntime`, or set it to null" in problem.message
