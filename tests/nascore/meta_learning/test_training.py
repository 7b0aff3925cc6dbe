"""Meta-training: what is drawn, where it ends, and what it refuses."""

from typing import Any

import numpy as np
import pytest
import torch
from few_shot_data import few_shot_data

from nascore.data.class_splits import EpisodeShape, split_classes
from nascore.data.episodes import EpisodeSampler, FewShotData
from nascore.errors import ChildFailedError
from nascore.meta_learning import training
from nascore.meta_learning.conv4 import Conv4
from nascore.meta_learning.options import EpisodeOptions, MetaOptions
from nascore.meta_learning.training import (
    MetaTrained,
    evaluate,
    inner_of,
    meta_train,
    rotate_classes,
    task_tensors,
)
from nascore.training.loop import TrainingStopped

SHAPE = EpisodeShape(3, 2, 2)


@pytest.fixture(scope="module")
def data() -> FewShotData:
    """Ten classes, told apart by which of ten pixels is bright."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(10), 12)
    images = rng.integers(0, 60, (120, 1, 8, 8), dtype=np.uint8)
    images[np.arange(120), 0, 1 + labels // 5 * 3, labels % 5] = 255
    splits = split_classes(range(10), valid_fraction=0.3, test_fraction=0.3, seed=0)
    return few_shot_data(images, labels, splits)


@pytest.fixture
def sampler(data: FewShotData) -> EpisodeSampler:
    return data.sampler("train", SHAPE)


def make_options(**settings: Any) -> MetaOptions:
    quick: dict[str, Any] = {"outer_steps": 3, "tasks": 2, "inner_steps": 2, "inner_lr": 0.05}
    return MetaOptions(**{**quick, **settings})


EPISODE = EpisodeOptions(ways=3, shots=2, queries=2)
TRANSDUCTIVE = EPISODE.model_copy(update={"transductive": True})


def run(
    sampler: EpisodeSampler, *, seed: int = 0, episode: EpisodeOptions = EPISODE, **settings: Any
) -> MetaTrained:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Conv4(1, 8, 3, channels=3)
    return meta_train(
        network,
        sampler,
        episode,
        make_options(**settings),
        generator=torch.Generator().manual_seed(seed),
    )


def distance(one: MetaTrained, other: MetaTrained) -> float:
    pairs = zip(one.parameters.values(), other.parameters.values(), strict=True)
    return max(float((a - b).abs().max()) for a, b in pairs)


@pytest.mark.parametrize("learner", ["reptile", "fomaml", "maml"])
def test_it_repeats(sampler: EpisodeSampler, learner: str) -> None:
    first = run(sampler, learner=learner)
    assert distance(first, run(sampler, learner=learner)) == 0
    assert distance(first, run(sampler, learner=learner, seed=1)) > 1e-5
    assert first.num_steps == 3


@pytest.mark.parametrize(
    ("learner", "inner", "outer_lr"),
    [
        ("reptile", ("adam", 0.001), 1.0),
        ("fomaml", ("sgd", 0.01), 0.001),
        ("maml", ("sgd", 0.01), 0.001),
    ],
)
def test_optimisers_and_rates_follow_the_learner(
    sampler: EpisodeSampler, learner: str, inner: tuple[str, float], outer_lr: float
) -> None:
    options = MetaOptions.model_validate({"learner": learner})
    assert (inner_of(options).optimiser, inner_of(options).learning_rate) == inner
    by_default, given = (
        run(sampler, learner=learner, **rate) for rate in ({}, {"outer_lr": outer_lr})
    )
    assert distance(by_default, given) == 0


def test_it_learns_to_learn(data: FewShotData) -> None:
    settings: dict[str, Any] = {"learner": "fomaml", "outer_steps": 60, "tasks": 4}
    settings |= {"outer_lr": 0.003, "inner_lr": 0.1, "inner_steps": 3, "last_layer": "prototypes"}
    train, valid = data.sampler("train", SHAPE), data.sampler("valid", SHAPE)

    def accuracy(trained: MetaTrained) -> float:
        accuracies_T = evaluate(
            trained,
            valid,
            TRANSDUCTIVE,
            make_options(**settings),
            num_tasks=200,
            generator=torch.Generator().manual_seed(3),
        )
        assert accuracies_T.shape == (200,)
        return float(accuracies_T.mean())

    before = accuracy(run(train, **{**settings, "outer_steps": 1, "outer_lr": 1e-9}))
    assert accuracy(run(train, **settings)) > before + 0.04
    assert valid.used == set(data.splits.valid)


def test_the_rate_falls_along_a_line_to_nothing(sampler: EpisodeSampler) -> None:
    """Reptile moves by the outer rate times the difference to the adapted weights."""
    settings: dict[str, Any] = {"inner_steps": 1, "tasks": 1, "outer_lr": 0.5}
    whole = run(sampler, outer_steps=1, **settings)
    assert distance(whole, run(sampler, outer_steps=1, **{**settings, "outer_lr": 0.5})) == 0
    start = run(sampler, outer_steps=1, **{**settings, "outer_lr": 1e-12})
    half = run(sampler, outer_steps=1, **{**settings, "outer_lr": 0.25})
    assert distance(start, half) == pytest.approx(distance(start, whole) / 2, rel=1e-3)
    rates = []
    original = torch.optim.Adam.step

    def step(self: torch.optim.Adam, closure: None = None) -> None:
        rates.append(self.param_groups[0]["lr"])
        original(self, closure)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", step)
        run(sampler, outer_steps=4, learner="fomaml", outer_lr=0.01)
    assert rates == pytest.approx([0.01, 0.0075, 0.005, 0.0025])


def test_inner_batches_are_parts_of_the_support_set(data: FewShotData) -> None:
    """A step of Reptile reads ten images where `train_shots` makes the support set larger."""
    generator, options = torch.Generator().manual_seed(0), make_options()
    more = EPISODE.model_copy(update={"train_shots": 5})
    sampler = data.sampler("train", more.training_shape)
    drawn = sampler.draw(4, generator)
    *support, batches = task_tensors(drawn, more, options, generator)
    assert [part.shape[:2] for part in support] == [(4, 15), (4, 15)]
    assert batches.shape == (4, 2, 10)
    for batch in batches.flatten(0, 1).tolist():
        assert len(set(batch)) == 10, "no image twice"
        assert set(batch) <= set(range(15))
    assert len({tuple(batch) for batch in batches.flatten(0, 1).tolist()}) > 4
    assert len(task_tensors(drawn, EPISODE, options, generator)) == 2, "all images in each step"
    few = data.sampler("train", SHAPE).draw(4, generator)
    assert len(task_tensors(few, more, options, generator)) == 2, "six images are no more than ten"
    maml = make_options(learner="maml")
    assert task_tensors(drawn, more, maml, generator)[2].shape == drawn.query_x.shape
    run(sampler, episode=more)


def test_classes_are_rotated_as_wholes(sampler: EpisodeSampler) -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = sampler.draw(20, generator)
    other = rotate_classes(drawn, generator)
    found = set()
    for task in range(20):
        for label in range(3):
            before = torch.cat(
                [drawn.support_x[task, 2 * label :][:2], drawn.query_x[task, 2 * label :][:2]]
            )
            after = torch.cat(
                [other.support_x[task, 2 * label :][:2], other.query_x[task, 2 * label :][:2]]
            )
            (turns,) = [n for n in range(4) if torch.equal(before.rot90(n, (2, 3)), after)]
            found.add(turns)
    assert found == {0, 1, 2, 3}
    rotated = EPISODE.model_copy(update={"rotate_classes": True})
    assert distance(run(sampler), run(sampler, episode=rotated)) > 1e-5


def test_more_steps_in_an_evaluation() -> None:
    options = make_options(eval_inner_steps=50)
    assert (inner_of(options).num_steps, inner_of(options, evaluation=True).num_steps) == (2, 50)
    assert inner_of(make_options(), evaluation=True).num_steps == 2


def test_prototypes_learn_with_fewer_tasks(data: FewShotData) -> None:
    settings: dict[str, Any] = {"learner": "fomaml", "outer_steps": 10, "tasks": 4}
    settings["outer_lr"] = 0.01
    accuracy = {}
    for last in ("learned", "prototypes"):
        trained = run(data.sampler("train", SHAPE), **settings, last_layer=last)
        accuracies_T = evaluate(
            trained,
            data.sampler("valid", SHAPE),
            TRANSDUCTIVE,
            make_options(**settings, last_layer=last),
            num_tasks=200,
            generator=torch.Generator().manual_seed(3),
        )
        accuracy[last] = float(accuracies_T.mean())
    assert accuracy["prototypes"] > accuracy["learned"] + 0.1


def test_reptile_has_no_queries_for_prototypes() -> None:
    with pytest.raises(ValueError, match="got reptile, which has no query images"):
        make_options(last_layer="prototypes")


def test_weights_that_are_not_finite_fail(sampler: EpisodeSampler) -> None:
    with pytest.raises(ChildFailedError, match="weights are not finite after step 0"):
        run(sampler, outer_lr=1e38, inner_lr=1e10)


def test_it_stops_when_asked(sampler: EpisodeSampler) -> None:
    polls = iter([False, False, True])
    done: list[int] = []
    with pytest.raises(TrainingStopped):
        meta_train(
            Conv4(1, 8, 3, channels=2),
            sampler,
            EPISODE,
            make_options(),
            generator=torch.Generator(),
            should_stop=lambda: next(polls),
            on_step=done.append,
        )
    assert done == [1, 2]


def test_a_network_without_memory_fails_as_a_child(
    sampler: EpisodeSampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*args: object, **named: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ...")

    monkeypatch.setattr(training, "run_looped", no_memory)
    with pytest.raises(ChildFailedError, match="does not fit in memory"):
        run(sampler)
