"""Finalists of a search: trained by the final recipe, averaged, stored, and as teacher."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from components.config.schema import Config, parse
from components.registry.teachers import load_teacher
from components.steps.finalists import move_members, train_winner
from components.steps.runtime import Step
from components.tracking import Tracker
from nascore.config import OwnTrainingConfig, SearchConfig
from nascore.context import SearchContext
from nascore.data.batches import load
from nascore.errors import ChildFailedError, InputError
from nascore.evaluation.mcnemar import mcnemar
from nascore.evaluation.scoring import score_of
from nascore.genotype import Genotype
from nascore.results import Arm, Child, SearchResult
from nascore.seeding import Seeds
from nascore.spaces.base import ImageShape, make_genotype, make_space
from nascore.spaces.mobilenet.config import MobileSpaceConfig
from nascore.spaces.residual.config import ResidualSpaceConfig
from nascore.training import ensemble as ensembles
from nascore.training.ensemble import FOLDER, Ensemble, finalists, member_folders
from nascore.training.final_model import FinalModel
from nascore.training.prediction import predict

SECTION = ResidualSpaceConfig(num_stages=2, channels=8)
SPACE = make_space(SECTION)
STANDARD = SPACE.standard  # type: ignore[attr-defined]


def changed(**tokens: int) -> Genotype:
    found = list(STANDARD.tokens)
    for name, value in tokens.items():
        found[int(name.removeprefix("t"))] = value
    return make_genotype(SPACE, found)


ONE, SHALLOW = STANDARD, changed(t0=0)  # two blocks in the first stage, and one


def result_of(*scored: tuple[Genotype, float | None]) -> SearchResult:
    children = tuple(
        Child(number=number, genotype=genotype, objective=score)
        if score is not None
        else Child(number=number, genotype=genotype, failure="no memory", status="failed")
        for number, (genotype, score) in enumerate(scored)
    )
    return SearchResult(
        method="random",
        seed=0,
        genotype=ONE,
        valid_accuracy=0.5,
        arm=Arm("random", children, 1.0),
        control=None,
        verdict=None,
        pareto=(),
        versions={},
    )


RESULT = result_of((SHALLOW, 0.8), (ONE, 0.9), (ONE, 0.85), (changed(t5=1), None))


def test_finalists_are_different_networks_the_winner_first() -> None:
    space = make_space(MobileSpaceConfig(stages=((8, 2, 1),)))
    winner, equal, third, fourth, failed = (
        make_genotype(space, bits)
        for bits in (
            (0, 0, 0, 0, 1, 0, 0, 0, 0, 1),
            (0, 0, 0, 0, 0, 0, 0, 0, 0, 1),  # an empty first block is a basic one
            (1, 0, 0, 0, 0, 0, 0, 0, 0, 1),
            (0, 1, 0, 0, 0, 0, 0, 0, 0, 1),
            (0, 0, 1, 0, 0, 0, 0, 0, 0, 1),
        )
    )
    assert space.canonical(equal) == space.canonical(winner)
    scored = ((equal, 0.95), (third, 0.7), (winner, 0.9), (fourth, 0.8), (failed, None))
    result = dataclasses.replace(result_of(*scored), genotype=winner)
    assert finalists(result, space, 2) == [winner, fourth]
    assert finalists(result, space, 9) == [winner, fourth, third]


class Run:
    """A real step with its state, and the context of its final training."""

    def __init__(self, data: Path, folder: Path, **training: Any) -> None:
        config: Config = parse(
            {
                "method": "random",
                "search": {"space": SECTION.model_dump()},
                "latency": {"runs": 20, "warmup_runs": 2},
                "training": {"device": "cpu", **training},
            }
        )
        (folder / "spool").mkdir(parents=True)
        tracker = Tracker.open(folder / "spool", uri="sqlite:///none.db", experiment="nas")
        self.step = Step("train_final", run_key="key", config=config, tracker=tracker)
        self.kept, self.model = folder / "kept", folder / "model"
        self.notes: list[str] = []
        self.step.progress = lambda event, **fields: self.notes.append(fields.get("text", ""))  # type: ignore[method-assign]
        self.context = SearchContext(
            method="random",
            seeds=Seeds(0),
            space=SPACE,
            splits=load(data, torch.device("cpu")),
            shape=ImageShape(1, 8, 10),
            search=SearchConfig(space=SECTION),
            final=config.training.resolve(OwnTrainingConfig(epochs=1)),
            options=config.search.options,
            controller=folder,
            state=folder,
            latency=config.latency,
            training=config.training,
        )

    def train(self, result: SearchResult = RESULT) -> FinalModel:
        final = train_winner(self.step, self.context, result, self.kept)
        final.save(self.model)
        move_members(self.kept, self.model)
        return final


def test_an_ensemble_averages_the_probabilities_of_its_members(
    digits_folder: Path, tmp_path: Path
) -> None:
    run = Run(digits_folder, tmp_path, ensemble=2)
    final = run.train()
    found, splits = final.ensemble, run.context.splits
    assert found is not None
    members = [FinalModel.load(one, SPACE) for one in member_folders(run.model / FOLDER)]
    assert [one.genotype for one in members] == [ONE, SHALLOW]
    logits = [predict(one.network, splits.test) for one in members]
    mean_NK = torch.stack([one.softmax(dim=1) for one in logits]).mean(dim=0)
    assert torch.equal(logits[0], predict(final.network, splits.test)), "the winner is a member"
    networks = Ensemble([one.network for one in members]).eval()
    assert torch.allclose(predict(networks, splits.test).exp(), mean_NK, atol=1e-5)
    assert found["test_accuracy"] == score_of("accuracy", mean_NK, splits.test.labels)
    assert found["num_params"] == sum(one.num_params for one in members)
    assert found["latency"]["p50_ms"] > 0
    right_N = [one.argmax(1) == splits.test.labels for one in (*logits, mean_NK)]
    compared = [*found["members"], found]
    for row, other_N in zip(compared, right_N, strict=True):
        difference = (right_N[0].float().mean() - other_N.float().mean()).item()
        assert row["difference"] == pytest.approx(difference, abs=1e-6)
        assert row["p_value"] == mcnemar(right_N[0].numpy(), other_N.numpy())
    first, second = found["members"]
    assert (first["difference"], first["p_value"]) == (0, 1), "it is the found network"
    assert second["difference"] != 0
    assert min(first["latency_ms"], second["latency_ms"]) > 0
    assert first["architecture"] == SPACE.describe(ONE)
    assert run.notes[-1].startswith("ensemble of 2 finalists: test accuracy 0.")
    assert json.loads((run.model / "model.json").read_text())["ensemble"] == found
    assert FinalModel.load(run.model, SPACE).ensemble == found
    assert not run.kept.exists()


def test_the_winner_learns_from_the_finalists(digits_folder: Path, tmp_path: Path) -> None:
    alone = Run(digits_folder, tmp_path / "alone").train()
    run = Run(digits_folder, tmp_path / "taught", ensemble=2, teacher="finalists")
    final = run.train()
    teacher = final.transfer["teacher"]
    assert (teacher["name"], teacher["num_classes"]) == ("2 finalists", 10)
    first, _ = (FinalModel.load(one, SPACE) for one in member_folders(run.model / FOLDER))
    name = "head.weight"
    assert torch.equal(first.network.state_dict()[name], alone.network.state_dict()[name])
    assert first.transfer == alone.transfer == {}
    assert not torch.equal(final.network.state_dict()[name], alone.network.state_dict()[name])


def test_a_stored_ensemble_is_the_teacher_of_another_run(
    digits_folder: Path, tmp_path: Path
) -> None:
    run = Run(digits_folder, tmp_path, ensemble=2)
    run.train()
    info = run.context.splits.info
    model, task = load_teacher(str(run.model / FOLDER), uri="sqlite:///none.db", folder=tmp_path)
    task.check(info)
    members = [FinalModel.load(one, SPACE).network for one in member_folders(run.model / FOLDER)]
    test = run.context.splits.test
    pixels = torch.cat([one.float() for one in test.pixel_batches(512)])
    with torch.no_grad():
        found = model(pixels)
    assert torch.allclose(found, predict(Ensemble(members).eval(), test), atol=1e-3)


def test_another_try_trains_only_the_members_that_are_missing(
    digits_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(digits_folder, tmp_path, ensemble=2, teacher="finalists")
    measured = ensembles.measured

    def killed(*given: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("components.steps.finalists.measured", killed)
    with pytest.raises(KeyboardInterrupt):
        run.train()
    monkeypatch.setattr("components.steps.finalists.measured", measured)
    run.notes.clear()
    run.train()
    assert not any("training finalist" in note for note in run.notes)


def test_a_member_that_fails_is_left_out(
    digits_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import components.steps.finalists as module

    train = module.train_together

    def fails(context: SearchContext, what: str, **values: Any) -> Any:
        if values["result"]["genotype"] == SHALLOW.to_dict():
            raise ChildFailedError("does not fit in memory")
        return train(context, what, **values)

    monkeypatch.setattr(module, "train_together", fails)
    deep = dataclasses.replace(
        RESULT, arm=Arm("random", (*RESULT.arm.children, child(changed(t0=2))), 1.0)
    )
    run = Run(digits_folder, tmp_path, ensemble=3)
    final = run.train(deep)
    assert final.ensemble is not None
    assert len(final.ensemble["members"]) == 2
    assert "finalist 2 is left out: does not fit in memory" in run.notes


def child(genotype: Genotype) -> Child:
    return Child(number=9, genotype=genotype, objective=0.1)


def test_a_search_with_one_architecture_has_no_ensemble(
    digits_folder: Path, tmp_path: Path
) -> None:
    run = Run(digits_folder, tmp_path, ensemble=2)
    assert run.train(result_of((ONE, 0.9))).ensemble is None
    assert run.notes == ["no ensemble: the search has one finished architecture"]


def test_finalists_as_teacher_need_their_number() -> None:
    with pytest.raises(InputError, match="needs their number; set ensemble, such as 3"):
        parse({"method": "random", "training": {"teacher": "finalists"}})
