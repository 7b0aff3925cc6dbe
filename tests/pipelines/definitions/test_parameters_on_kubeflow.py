"""What KFP's drivers make of parameters that are not given (`tests/support/cluster/driver.py`)."""

from pathlib import Path
from typing import Any

import pytest
from cluster.driver import Driver, DriverError, Execution, RunInfo
from cluster.spec import Pipeline
from kfp import compiler, dsl

from components.config.parameters import NAMES
from components.config.schema import parse
from pipelines.definitions.retrain import compile_retrain
from pipelines.definitions.search import compile_search

DIGEST = f"ghcr.io/team/nas@sha256:{'0123456789abcdef' * 4}"
RUN = RunInfo("0f82d07e", "nas-search-x7k2p", "a run", "2026-11-30T00:00:00Z")
INSIDE = "exit-handler-1"  # the group of the steps


def inside_of(path: Path, parameters: dict[str, Any]) -> tuple[Driver, Execution]:
    """The driver, and the execution of the group that holds all steps but the exit task."""
    driver = Driver(Pipeline.load(path), RUN, root="minio://bucket", session={})
    return driver, driver.start(INSIDE, driver.root(parameters))


@pytest.mark.parametrize("compile_pipeline", [compile_search, compile_retrain])
@pytest.mark.parametrize("given", [{}, {"method": "random", "budget": "8 children"}])
def test_the_first_step_gets_each_parameter_or_an_empty_text(
    compile_pipeline: Any, given: dict[str, str], tmp_path: Path
) -> None:
    compile_pipeline(parse({"seed": 3}), tmp_path / "p.yaml", image=DIGEST)
    driver, group = inside_of(tmp_path / "p.yaml", given)
    prepare = driver.start("prepare-data", group)
    assert {name: prepare.parameters[name] for name in NAMES} == dict.fromkeys(NAMES, "") | given


def test_an_optional_number_without_a_value_would_end_the_driver_of_all_steps(
    tmp_path: Path,
) -> None:
    """So no parameter of ours is one; recheck this when Kubeflow changes."""

    @dsl.component(base_image="python:3.11", install_kfp_package=False)
    def step(seed: int = None):  # type: ignore  # noqa: RUF013
        pass

    @dsl.component(base_image="python:3.11", install_kfp_package=False)
    def close():  # type: ignore[no-untyped-def]
        pass

    @dsl.pipeline(name="numbers")
    def numbers(seed: int = None) -> None:  # type: ignore  # noqa: RUF013
        with dsl.ExitHandler(close()):
            step(seed=seed)

    compiler.Compiler().compile(numbers, str(tmp_path / "p.yaml"))

    def start_without_a_value() -> None:
        driver, group = inside_of(tmp_path / "p.yaml", {})
        driver.start("step", group)

    with pytest.raises(DriverError, match="the resolved input parameter is null"):
        start_without_a_value()
    driver, group = inside_of(tmp_path / "p.yaml", {"seed": 1})
    assert driver.start("step", group).parameters == {"seed": 1}
