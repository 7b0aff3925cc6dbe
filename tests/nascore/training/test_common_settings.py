"""Settings of the section `training` reach every training of a run."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import instanas_tasks
import nasib_tasks
import pytest
import shared_tasks

from nascore.config import CommonTrainingConfig, OwnTrainingConfig, TrainingConfig
from nascore.config.recipes import NOT_FOR_CHILDREN, PAPER, SWITCHES, resolve_switches
from nascore.context import SearchContext, device_of
from nascore.data.batches import Split
from nascore.methods.common.shared_weights_options import SharedWeightsOptions
from nascore.methods.instanas.options import PretrainingOptions
from nascore.methods.registry import METHODS

COMMON = CommonTrainingConfig(
    class_weights="balanced",
    sampling="balanced",
    device="cpu",
    flip=True,
    crop_padding=3,
    cutout=2,
    min_lr=0.002,
    weight_decay=0.01,
    max_grad_norm=7.0,
)
OWN = OwnTrainingConfig(epochs=3, max_steps=5, batch_size=11, lr=0.2, warmup_fraction=0.1)


def test_a_training_has_all_common_settings_and_its_own() -> None:
    found = COMMON.resolve(OWN).model_dump()
    given = COMMON.model_dump() | OWN.model_dump() | {"momentum": 0.9}
    assert found == given | resolve_switches(given)
    assert None not in [found[name] for name in SWITCHES]


@pytest.mark.parametrize("own", [SharedWeightsOptions(), PretrainingOptions()])
def test_shared_weights_are_augmented_alike_and_keep_the_optimiser_of_their_method(
    own: SharedWeightsOptions | PretrainingOptions,
) -> None:
    found = own.resolve(COMMON.model_copy(update={"recipe": "strong", "mixup": 0.3}))
    shared = ("class_weights", "sampling", "device", "flip", "crop_padding")
    assert {name: getattr(found, name) for name in shared} == COMMON.model_dump(include=set(shared))
    assert found.cutout == 0, "children and final network only"
    assert found.weight_decay == 1e-4
    of_method = {"min_lr", "weight_decay"}
    assert all(getattr(found, name) == PAPER[name] for name in SWITCHES.keys() - of_method)


def test_a_switch_left_at_null_takes_the_value_of_the_recipe() -> None:
    quick = COMMON.model_copy(update={"recipe": "quick", "ema": 0.3})
    found = quick.resolve(OWN)
    assert (found.label_smoothing, found.ema, found.min_lr) == (0.1, 0.3, 0.002)
    assert COMMON.model_copy(update={"recipe": "strong"}).resolve(OWN).auto_augment == "trivial"
    # A stored configuration keeps null, so that its recipe can still be changed.
    stored = CommonTrainingConfig.model_validate(COMMON.model_dump())
    assert stored.model_copy(update={"recipe": "quick"}).resolve(OWN).label_smoothing == 0.1


def test_every_recipe_has_every_switch_and_paper_is_what_a_training_has_by_itself() -> None:
    assert all(values.keys() == {"paper", "quick", "strong"} for values in SWITCHES.values())
    found = TrainingConfig().model_dump()
    assert {name: found[name] for name in SWITCHES} == PAPER


def test_children_have_the_recipe_without_what_is_for_long_trainings() -> None:
    config = COMMON.model_copy(update={"compile": True, "ema": 0.1, "mixup": 0.2})
    child, final = config.resolve_child(OWN), config.resolve(OWN)
    assert (final.compile, final.ema, final.mixup) == (True, 0.1, 0.2)
    assert child == final.model_copy(update=dict(NOT_FOR_CHILDREN))


def test_optimisers_with_steps_of_the_size_of_the_rate_refuse_rates_of_sgd() -> None:
    with pytest.raises(ValueError, match=r"adamw needs lr <= 0\.02, got 0\.1"):
        TrainingConfig(optimizer="adamw", lr=0.1)
    assert TrainingConfig(optimizer="muon", lr=0.01).weight_decay == 0.05


TASKS: dict[str, Callable[[Path, Path], SearchContext[Any]]] = {
    "enas": lambda folder, data: shared_tasks.make_task(folder, data, "enas"),
    "nasib": nasib_tasks.make_task,
    "instanas": instanas_tasks.make_task,
}


@pytest.mark.parametrize("method", TASKS)
def test_every_training_of_a_run_is_augmented_as_set(
    method: str, tmp_path: Path, digits_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One look at each call that makes batches, by whichever part of the method."""
    context = TASKS[method](tmp_path / "run", digits_folder)
    assert context.training == CommonTrainingConfig()
    context = dataclasses.replace(
        context, training=COMMON, final=COMMON.resolve(OwnTrainingConfig(epochs=1, max_steps=2))
    )
    assert context.child == COMMON.resolve_child(context.search.child)
    assert device_of(context.training).type == "cpu"
    seen: list[TrainingConfig] = []
    real = Split.train_batches

    def train_batches(
        self: Split, config: TrainingConfig, *args: Any, **more: Any
    ) -> Iterator[Any]:
        seen.append(config)
        return real(self, config, *args, **more)

    monkeypatch.setattr(Split, "train_batches", train_batches)
    module = METHODS[method].load()
    module.pretrain(context)
    module.train_final(context, module.search(context))
    assert len(seen) > 2
    assert {(one.crop_padding, one.flip) for one in seen} == {(3, True)}
    assert seen[-1].cutout == 2
