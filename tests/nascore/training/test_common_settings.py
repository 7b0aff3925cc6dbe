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
    assert found == COMMON.model_dump() | OWN.model_dump() | {"momentum": 0.9}


@pytest.mark.parametrize("own", [SharedWeightsOptions(), PretrainingOptions()])
def test_shared_weights_are_augmented_alike_and_keep_the_optimiser_of_their_method(
    own: SharedWeightsOptions | PretrainingOptions,
) -> None:
    found = own.resolve(COMMON)
    shared = ("class_weights", "sampling", "device", "flip", "crop_padding")
    assert {name: getattr(found, name) for name in shared} == COMMON.model_dump(include=set(shared))
    assert found.cutout == 0, "children and final network only"
    assert found.weight_decay == 1e-4


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
    assert context.child == COMMON.resolve(context.search.child)
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
