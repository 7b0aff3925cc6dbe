"""The step that compares the found network with standard ones: what is trained and recommended."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from components.config.schema import Config, dumps, parse
from components.steps import prepare_data, train_references
from components.steps.compiled import Compiled
from components.steps.state import write_json
from nascore.errors import ChildFailedError, InputError
from nascore.reference import plan
from nascore.reference import training as reference_training
from nascore.results import Arm, Child, ChildScores, SearchResult
from nascore.spaces.base import ImageShape, make_space, neighbours
from nascore.spaces.residual.space import ResidualSpace
from nascore.training.final_model import FinalModel

SECONDS = 2.0  # of the search


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No process follows the spool: its events are what is tested."""
    (tmp_path / "spool").mkdir()
    monkeypatch.setenv("NAS_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("NAS_SPOOL_DIR", str(tmp_path / "spool"))
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # put back what a step sets


class Run:
    """Results of the steps before: an untrained network as the found one."""

    def __init__(self, folder: Path, store: str, **settings: Any) -> None:
        space = {"name": "residual", "num_stages": 1, "channels": 8}
        data = {
            "method": "random",
            "data": {"max_train": 200},
            "search": {"space": space},
            "train": {"epochs": 1},
            "latency": {"runs": 20, "warmup_runs": 1, "device": "cpu", "threads": 1},
            "tracking": {"uri": store},
            "registry": {"model": "digits"},
        }
        self.config: Config = parse({**data, **settings})
        self.folder = folder

    def prepare(self) -> "Run":
        folder, found = self.folder, make_space(self.config.search.space)
        prepare_data.run(
            config=dumps(self.config),
            compiled=Compiled(searches=True),
            parameters={},
            job_name="",
            dataset=folder / "dataset",
        )
        assert isinstance(found, ResidualSpace)
        other = next(iter(neighbours(found, found.standard)))
        arm, control = (
            Arm("random", (Child.of_scores(0, genotype, ChildScores(0.5)),), SECONDS)
            for genotype in (found.standard, other)
        )
        search = SearchResult("random", 0, found.standard, 0.5, arm, control, None)
        write_json(folder / "search.json", search.to_dict())
        torch.manual_seed(0)
        shape = ImageShape(1, 8, 10)
        network = found.build(found.standard, shape, "final")
        measured = FinalModel(found.standard, shape, network, 0.1, 0.1, 0.1, 1000, 1, 1, 0.5)
        measured.save(folder / "model")
        return self

    def compare(self) -> dict[str, Any]:
        train_references.run(
            run_key="key",
            dataset=self.folder / "dataset",
            search_result=self.folder / "search.json",
            model=self.folder / "model",
            references=self.folder / "references",
        )
        found: dict[str, Any] = json.loads(
            (self.folder / "references" / "references.json").read_text()
        )
        return found


def notes(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


def test_a_short_run_compares_nothing_and_reports_it(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = Run(tmp_path, store).prepare().compare()
    assert found["references"] == []
    assert found["control"] is None
    assert found["recommendation"]["ship"] == "found"
    assert "search and final training took 2 s, less than the 60 s" in notes(capsys)
    assert not (tmp_path / "references" / "model").exists()


def test_default_networks_that_have_no_time_for_five_epochs_are_left_out(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How many epochs fit depends on the machine, so the measurement is replaced here."""
    fitting = {"resnet18": 3.0, "standard": 50.0}
    monkeypatch.setattr(
        reference_training, "epochs_within", lambda context, name, seconds: fitting[name]
    )
    monkeypatch.setattr(plan, "MIN_SECONDS", 1.0)
    found = Run(tmp_path, store).prepare().compare()
    (left_out,) = found["left_out"]
    assert left_out["name"] == "resnet18"
    assert "epochs in 2 s, fewer than 5; `reference` trains it anyway" in left_out["reason"]
    assert [row["name"] for row in found["references"]] == ["standard"]
    assert found["control"]["name"] == "control"
    assert found["control"]["epochs"] == 1, "as the found one"
    assert found["references"][0]["epochs"] > 5
    assert found["recommendation"]["ship"] == "standard", "the found one is not trained"
    shipped = json.loads((tmp_path / "references" / "model" / "model.json").read_text())
    assert shipped["network"]["name"] == "standard"


def test_networks_that_are_trained_are_kept_when_the_step_is_killed(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path, store, reference=["standard", "squeezenet1_1"]).prepare()
    trained: list[str] = []
    train = reference_training.train_reference

    def killed(context: Any, name: str, *, seconds: float) -> FinalModel:
        trained.append(name)
        if trained == ["standard", "squeezenet1_1"]:
            raise KeyboardInterrupt
        return train(context, name, seconds=seconds)

    monkeypatch.setattr(reference_training, "train_reference", killed)
    with pytest.raises(KeyboardInterrupt):
        run.compare()
    assert not (tmp_path / "references").exists()
    found = run.compare()
    assert trained == ["standard", "squeezenet1_1", "squeezenet1_1"]
    assert [row["name"] for row in found["references"]] == ["standard", "squeezenet1_1"]


def test_a_network_that_fails_is_left_out_with_its_reason(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(context: Any, name: str, *, seconds: float) -> FinalModel:
        raise ChildFailedError("does not fit in memory", num_steps=0)

    monkeypatch.setattr(reference_training, "train_reference", fails)
    found = Run(tmp_path, store, reference=["resnet18"]).prepare().compare()
    assert found["left_out"] == [{"name": "resnet18", "reason": "does not fit in memory"}]
    assert found["references"] == []
    assert found["control"] is not None


@pytest.mark.parametrize("ship", ["found", "recommended"])
def test_limits_and_the_setting_decide_what_is_shipped(
    store: str, tmp_path: Path, ship: str
) -> None:
    run = Run(tmp_path, store, reference=["standard"], registry={"model": "a", "ship": ship})
    run.config = run.config.model_copy(
        update={"promote": run.config.promote.model_copy(update={"max_params": 2000})}
    )
    found = run.prepare().compare()
    row = found["references"][0]
    assert "is over promote.max_params = 2,000" in row["over_limit"]
    assert found["recommendation"]["ship"] != "standard"
    assert "standard is not recommended: " in found["recommendation"]["why"]
    is_other = found["recommendation"]["ship"] != "found" and ship == "recommended"
    assert (tmp_path / "references" / "model").exists() == is_other


def test_names_that_do_not_fit_are_refused_with_the_data(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nascore.reference import networks

    monkeypatch.setattr(networks, "NAMES", ("standard", "inception_v3"))
    with pytest.raises(InputError) as refused:
        Run(tmp_path, store, reference=["inception_v3"]).prepare()
    (problem,) = refused.value.problems
    assert (problem.key, problem.value) == ("reference", "inception_v3")
    assert problem.message.endswith("networks that fit: standard")
    assert not (tmp_path / "dataset").exists()


def test_the_time_of_the_control_is_no_cost_of_the_search(store: str, tmp_path: Path) -> None:
    run = Run(tmp_path, store, reference=["standard"], reference_share=0.5).prepare()
    search = SearchResult.from_dict(json.loads((tmp_path / "search.json").read_text()))
    assert search.control is not None
    slow = replace(search, control=replace(search.control, seconds=1e6))
    write_json(tmp_path / "search.json", slow.to_dict())
    assert run.compare()["seconds"] == 0.5 * (SECONDS + 0.5)
