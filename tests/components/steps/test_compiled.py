"""What a run may change of a pipeline whose pods are compiled."""

from pathlib import Path
from typing import Any

import pytest

from components.config.parameter_values import resolve
from components.config.schema import Config, dumps, parse
from components.steps import search_worker
from components.steps.compiled import Compiled, run_key_of, workers_of, write_run
from components.steps.state import fingerprint
from nascore.config import CommonTrainingConfig
from nascore.errors import InputError

PODS = Compiled(workers=(1, 2, 2))


def config_of(workers: int, **search: Any) -> Config:
    # The budget is that of the preset: another method takes its own then.
    budget = {"children": 12}
    search = {"storage": "env:NAS_STUDY_URL", "budget": budget, **search, "workers": workers}
    return parse({"method": "random", "search": search})


@pytest.mark.parametrize(
    ("workers", "division"),
    [(5, (1, 2, 2)), (4, (1, 2, 1)), (3, (1, 2, 0)), (2, (1, 1, 0)), (1, (1, 0, 0))],
)
def test_fewer_workers_leave_pods_without_work(workers: int, division: tuple[int, ...]) -> None:
    assert PODS.division(config_of(workers)) == division


def test_more_workers_than_there_are_pods_for_are_refused() -> None:
    with pytest.raises(InputError) as refused:
        PODS.division(config_of(6))
    (problem,) = refused.value.problems
    assert (problem.key, problem.value) == ("search.workers", "6")
    assert "was compiled for 5" in problem.message
    assert "use at most 5, or compile or submit the pipeline with more workers" in problem.message


def test_one_machine_has_no_limit() -> None:
    assert Compiled().division(config_of(64, storage=None)) == (64,)


def test_a_method_whose_workers_train_one_network_has_them_in_one_pod() -> None:
    def group(workers: int) -> Config:
        values = {"method": "memory-enas", "workers": str(workers)}
        return resolve(dumps(config_of(5)), {**values, "settings": "search.storage=null"})

    with pytest.raises(InputError, match="which are in one pod"):
        PODS.division(group(2))
    assert PODS.division(group(1)) == (1, 0, 0)
    assert Compiled(workers=(4,)).division(group(4)) == (4,)


def test_several_pods_need_a_database() -> None:
    with pytest.raises(InputError, match="workers in several pods share a database"):
        PODS.division(config_of(2, storage=None))
    assert PODS.division(config_of(1, storage=None)) == (1, 0, 0)


def test_a_device_that_a_pod_does_not_have_is_refused() -> None:
    config = parse({"method": "random", "training": {"device": "cuda"}})
    with pytest.raises(InputError) as refused:
        Compiled((1,), without_gpu=("train_final", "profile_latency")).division(config)
    assert [problem.key for problem in refused.value.problems] == ["training.device"]
    assert "the pod of train_final has no GPU" in refused.value.problems[0].message


def test_facts_survive_kubeflow() -> None:
    """Its numbers are doubles."""
    facts = Compiled((1, 2, 2), ("search",), searches=True)
    passed = facts.to_dict()
    passed["workers"] = [float(count) for count in passed["workers"]]
    assert Compiled.of(passed) == facts
    assert Compiled.of(Compiled().to_dict()) == Compiled()


def test_a_pod_without_a_share_of_the_workers_ends_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It must not fail, or Kubeflow would fail the run."""
    monkeypatch.delenv("NAS_PROGRESS_FILE", raising=False)
    write_run(tmp_path, run_key="key", division=PODS.division(config_of(2)))
    assert [workers_of(tmp_path, place) for place in (0, 1, 2)] == [1, 1, 0]
    search_worker.run(run_key="key", dataset=tmp_path, controller=tmp_path / "none", place=2)
    assert "search_worker-2 has nothing to do" in capsys.readouterr().out
    with pytest.raises(FileNotFoundError):  # this one works, and misses the configuration
        search_worker.run(run_key="key", dataset=tmp_path, controller=tmp_path / "none", place=1)


def test_the_division_is_no_part_of_the_data(tmp_path: Path) -> None:
    """A retry with other pods finds the finished work of the first try."""
    before = fingerprint(Config(), {"dataset": tmp_path})
    write_run(tmp_path, run_key="key", division=(1, 1))
    assert fingerprint(Config(), {"dataset": tmp_path}) == before
    assert run_key_of(tmp_path) == "key"


def test_a_run_on_more_devices_than_the_pods_have_is_refused() -> None:
    config = config_of(1).model_copy(update={"training": CommonTrainingConfig(devices=4)})
    assert Compiled((1,), devices=4).division(config) == (1,)
    assert Compiled().division(config) == (1,), "on one machine, which is checked before"
    with pytest.raises(InputError, match="compiled for 2, and its pods have no more GPUs"):
        Compiled((1,), devices=2).division(config)
    assert Compiled.of(Compiled((1,), devices=2).to_dict()).devices == 2
