"""A final training that was killed continues in the step's next try."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import shared_tasks
import torch

from nascore.context import SearchContext
from nascore.genotype import Genotype
from nascore.spaces.base import make_genotype
from nascore.training import final_checkpoint, final_model
from nascore.training.child import build_network
from nascore.training.loop import TrainingStopped


@pytest.fixture
def context(tmp_path: Path, digits_folder: Path) -> SearchContext[Any]:
    context = shared_tasks.make_task(tmp_path / "run", digits_folder, "enas")
    settings = {"epochs": 2, "max_steps": 8, "ema": 0.4, "flip": True, "test_time_flip": True}
    return dataclasses.replace(context, final=context.final.model_copy(update=settings))


def genotype_of(context: SearchContext[Any]) -> Genotype:
    return make_genotype(context.space, [0] * len(context.space.cardinalities))


def network_of(context: SearchContext[Any]) -> torch.nn.Module:
    return build_network(context.space, genotype_of(context), context.shape, seed=0, final=True)


class StopsLater:
    """Callbacks that ask for a stop after some updates."""

    def __init__(self, updates: int) -> None:
        self.left = updates

    def should_stop(self) -> bool:
        self.left -= 1
        return self.left < 0

    def on_metrics(self, metrics: object, step: int) -> None: ...

    def on_message(self, text: str) -> None: ...


def test_the_next_try_continues_and_gives_the_same_model(
    context: SearchContext[Any], tmp_path: Path
) -> None:
    elsewhere = dataclasses.replace(context, state=tmp_path / "elsewhere")
    whole = final_model.train_network(elsewhere, network_of(context), genotype_of(context))
    stopped = dataclasses.replace(context, callbacks=StopsLater(5))  # type: ignore[arg-type]
    with pytest.raises(TrainingStopped):
        final_model.train_network(stopped, network_of(context), genotype_of(context))
    (path,) = context.state.glob("final-training-*.ckpt")
    seen: list[int] = []
    resumed = final_model.train_network(
        dataclasses.replace(context, callbacks=CountsUpdates(seen)),  # type: ignore[arg-type]
        network_of(context),
        genotype_of(context),
    )
    assert len(seen) == 3, "five of eight updates were made before"
    for name, value in whole.network.state_dict().items():
        assert torch.equal(resumed.network.state_dict()[name], value), name
    assert resumed.test_accuracy == whole.test_accuracy
    assert path.exists(), "until the model is saved"
    final_checkpoint.remove_final_checkpoints(context.state)
    assert not path.exists()


class CountsUpdates(StopsLater):
    """Callbacks that count updates and never ask for a stop."""

    def __init__(self, seen: list[int]) -> None:
        super().__init__(0)
        self.seen = seen

    def should_stop(self) -> bool:
        self.seen.append(1)
        return False


def test_a_training_with_other_settings_does_not_find_it(context: SearchContext[Any]) -> None:
    stopped = dataclasses.replace(context, callbacks=StopsLater(5))  # type: ignore[arg-type]
    with pytest.raises(TrainingStopped):
        final_model.train_network(stopped, network_of(context), genotype_of(context))
    other = dataclasses.replace(context, final=context.final.model_copy(update={"lr": 0.02}))
    found = final_checkpoint.final_checkpoint(
        other, network_of(context), genotype_of(context), None
    )
    assert found.load() is None


def test_a_network_with_a_test_time_flip_is_stored_measured_and_loaded_as_such(
    context: SearchContext[Any], tmp_path: Path
) -> None:
    final = final_model.train_network(context, network_of(context), genotype_of(context))
    plain = final_model.count(network_of(context), context.shape)
    assert final.macs == 2 * plain.macs
    assert final.num_params == plain.num_params
    x_BCHW = torch.rand(3, 1, 8, 8)
    with torch.inference_mode():
        logits_BK = final.network(x_BCHW)
        assert torch.allclose(logits_BK, final.network(x_BCHW.flip(3)), atol=1e-6)
        final.save(tmp_path / "model")
        loaded = final_model.FinalModel.load(tmp_path / "model", context.space)
        assert torch.equal(loaded.network(x_BCHW), logits_BK)
