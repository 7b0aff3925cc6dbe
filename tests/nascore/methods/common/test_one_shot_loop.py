"""The loop of one-shot methods: batches, budget, checkpoints, divergence, reports."""

import dataclasses
import logging
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from callbacks import CallbacksOf
from shared_tasks import make_task
from torch import Tensor

from nascore.config import BudgetConfig
from nascore.context import SearchContext
from nascore.errors import InputError, WeightsDivergedError
from nascore.methods.common import one_shot_loop
from nascore.methods.common.one_shot_loop import OneShotLoop, available_seconds, identity_of
from nascore.methods.enas.options import RandomWsOptions

Context = SearchContext[RandomWsOptions]


def make_loop(context: Context, *, state: Mapping[str, Any] | None = None) -> OneShotLoop:
    tensors = {"weights": torch.arange(3.0)}
    return OneShotLoop(
        context,
        "method",
        kind="test",
        training=context.options.weights.resolve(context.training),
        identity=identity_of(context),
        snapshot=lambda: (tensors, dict(state or {})),
    )


@pytest.fixture
def context(tmp_path: Path, digits_folder: Path) -> Context:
    return make_task(tmp_path / "run", digits_folder, "random-ws")


def batches(loop: OneShotLoop, context: Context, start: int, number: int) -> list[Tensor]:
    stream = loop.batches("weights", context.splits.train, start=start)
    return [x_BCHW for x_BCHW, _ in islice(stream, number)]


# --- batches ------------------------------------------------------------------------------------


def test_batches_from_any_step_are_those_of_the_whole_training(context: Context) -> None:
    loop = make_loop(context)
    training = context.options.weights.resolve(context.training)
    steps = context.splits.train.steps_per_epoch(training)
    whole = batches(loop, context, 0, 3 * steps)
    assert sum(map(len, whole[:steps])) == context.splits.train.num_images
    assert not torch.equal(whole[0], whole[steps]), "each epoch has its own order"
    for start in (1, steps - 1, steps, steps + 3):
        parts = batches(loop, context, start, 4)
        assert all(map(torch.equal, parts, whole[start : start + 4]))


# --- the budget ---------------------------------------------------------------------------------


def test_the_spent_fraction_of_steps_and_of_time(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert make_loop(context).spent(6) == 6 / 24
    search = context.search.model_copy(update={"budget": BudgetConfig(gpu_hours=1)})
    timed = make_loop(dataclasses.replace(context, search=search, state=tmp_path))
    monkeypatch.setattr(OneShotLoop, "seconds", 900.0)
    assert timed.spent(6, reserved=0.5) == 0.5
    assert available_seconds(BudgetConfig(seconds=7)) == 7


def test_it_ends_when_the_budget_is_spent_or_it_has_to_stop(context: Context) -> None:
    loop = make_loop(context)
    spent = iter([0.0, 0.5, 1.0])
    assert list(loop.until_spent(lambda: next(spent))) == [0.0, 0.5]
    callbacks = CallbacksOf(should_stop=lambda: True)
    stopped = make_loop(dataclasses.replace(context, callbacks=callbacks))
    assert list(islice(stopped.until_spent(lambda: 0.0), 2)) == []


# --- reports ------------------------------------------------------------------------------------


def test_loss_and_progress_are_reported_every_sixteenth_step(
    context: Context, caplog: pytest.LogCaptureFixture
) -> None:
    metrics: dict[int, Mapping[str, float]] = {}
    progress: list[float] = []
    callbacks = CallbacksOf(
        on_metrics=lambda found, step: metrics.update({step: found}),
        on_progress=lambda arm, fraction: progress.append(fraction),
    )
    loop = make_loop(dataclasses.replace(context, callbacks=callbacks))
    with caplog.at_level(logging.INFO, logger=one_shot_loop.__name__):
        for step in range(1, 33):
            loop.end_step(step, step / 40, loss=torch.tensor(2.5), metrics=lambda: {"more": 1.0})
    assert metrics == {step: {"more": 1.0, "weights/method/loss": 2.5} for step in (16, 32)}
    assert progress == [16 / 40, 32 / 40]
    assert "method: step" in caplog.text
    assert "loss 2.5" in caplog.text


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_names_the_setting(context: Context, loss: float) -> None:
    loop = make_loop(context)
    loop.end_step(15, 0.1, loss=torch.tensor(loss))  # a test makes the host wait for a GPU
    with pytest.raises(WeightsDivergedError, match=r"at step 16; lower search.options.weights.lr"):
        loop.end_step(16, 0.1, loss=torch.tensor(loss))


# --- checkpoints --------------------------------------------------------------------------------


def test_a_checkpoint_is_written_when_it_is_due(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = one_shot_loop.checkpoint_path(context.state)
    make_loop(context).end_step(1, 0.1)
    assert not path.exists()
    monkeypatch.setattr(one_shot_loop, "CHECKPOINT_EVERY_S", 0.0)
    make_loop(context, state={"step": 3}).end_step(1, 0.1)
    found = make_loop(context).restore()
    assert found is not None
    assert torch.equal(found[0]["weights"], torch.arange(3.0))
    assert found[1]["step"] == 3


def test_a_checkpoint_of_other_settings_is_refused(context: Context) -> None:
    make_loop(context).save()
    options = context.options.model_copy(update={"num_candidates": 13})
    with pytest.raises(InputError, match="of a search with other settings"):
        make_loop(dataclasses.replace(context, options=options)).restore()
