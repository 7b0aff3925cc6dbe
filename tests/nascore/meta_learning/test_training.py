"""Meta-training: what is drawn, where it ends, and what it refuses."""

from typing import Any

import numpy as np
import pytest
import torch

from nascore.data.class_folders import EpisodeShape, split_classes
from nascore.data.episodes import EpisodeSampler, FewShotData
from nascore.errors import ChildFailedError
from nascore.meta_learning.convnet import FourConvolutions
from nascore.meta_learning.engine import TaskEngine
from nascore.meta_learning.options import MetaOptions
from nascore.meta_learning.training import (
    JUDGE,
    TRAIN,
    MetaTrained,
    inner_of,
    judge,
    measured_ways,
    meta_train,
    task_tensors,
    turned,
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
    return FewShotData(images, labels, splits)


@pytest.fixture
def sampler(data: FewShotData) -> EpisodeSampler:
    return data.sampler("train", SHAPE)


def make_options(**settings: Any) -> MetaOptions:
    quick: dict[str, Any] = {"outer_steps": 3, "tasks": 2, "inner_steps": 2, "inner_lr": 0.05}
    return MetaOptions(**{**quick, **settings})


def run(
    sampler: EpisodeSampler, *, seed: int = 0, way: Any = "loop", **settings: Any
) -> MetaTrained:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = FourConvolutions(1, 8, 3, channels=3)
    return meta_train(
        network,
        sampler,
        make_options(**settings),
        generator=torch.Generator().manual_seed(seed),
        engine=TaskEngine(ways={TRAIN: way}),
    )


def distance(one: MetaTrained, other: MetaTrained) -> float:
    pairs = zip(one.parameters.values(), other.parameters.values(), strict=True)
    return max(float((a - b).abs().max()) for a, b in pairs)


@pytest.mark.parametrize("learner", ["reptile", "fomaml", "maml"])
@pytest.mark.parametrize("outer", [("sgd", 0.5), ("adam", 0.01)])
def test_it_repeats_and_is_the_same_in_every_way(
    sampler: EpisodeSampler, learner: str, outer: tuple[str, float]
) -> None:
    optimiser, rate = outer
    # SGD inside: Adam divides by the root of what may be nothing but rounding.
    settings = {"learner": learner, "outer_optimiser": optimiser, "outer_lr": rate}
    settings["inner_optimiser"] = "sgd"
    first = run(sampler, **settings)
    assert distance(first, run(sampler, **settings)) == 0
    assert distance(first, run(sampler, seed=1, **settings)) > 1e-5
    if optimiser == "sgd":
        # Of one step: further ones make differences of rounding larger.
        loop, *others = [
            run(sampler, way=way, outer_steps=1, **settings)
            for way in ("loop", "vmap", "channels_last", *(["plain"] if learner != "maml" else []))
        ]
        assert all(distance(loop, other) < 1e-5 for other in others)
    assert first.num_steps == 3


def test_it_learns_to_learn(data: FewShotData) -> None:
    settings = {"learner": "fomaml", "outer_steps": 80, "tasks": 4, "inner_optimiser": "sgd"}
    settings |= {"outer_optimiser": "adam", "outer_lr": 0.01, "inner_lr": 0.4, "inner_steps": 1}
    train, valid = data.sampler("train", SHAPE), data.sampler("valid", SHAPE)

    def accuracy(trained: MetaTrained) -> float:
        accuracies_T = judge(
            trained,
            valid,
            make_options(**settings, transductive=True),
            num_tasks=200,
            generator=torch.Generator().manual_seed(3),
            engine=TaskEngine(ways={JUDGE: "vmap"}),
        )
        assert accuracies_T.shape == (200,)
        return float(accuracies_T.mean())

    before = accuracy(run(train, **{**settings, "outer_steps": 1, "outer_lr": 1e-9}))
    assert accuracy(run(train, way="vmap", **settings)) > before + 0.04
    assert valid.used == set(data.splits.valid)


def test_the_rate_falls_along_a_line_to_nothing(sampler: EpisodeSampler) -> None:
    """Reptile with one inner SGD step of rate r moves by outer rate * r * gradient."""
    settings = {"inner_optimiser": "sgd", "inner_steps": 1, "tasks": 1, "outer_lr": 0.5}
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
        run(sampler, outer_steps=4, outer_optimiser="adam", outer_lr=0.01)
    assert rates == pytest.approx([0.01, 0.0075, 0.005, 0.0025])


def test_inner_batches_are_parts_of_the_support_set(sampler: EpisodeSampler) -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = sampler.draw(4, generator)
    *support, batches = task_tensors(drawn, make_options(inner_batch=4), generator)
    assert [len(part) for part in support] == [4, 4]
    assert batches.shape == (4, 2, 4)
    for batch in batches.flatten(0, 1).tolist():
        assert len(set(batch)) == 4, "no image twice"
        assert set(batch) <= set(range(6))
    assert len({tuple(batch) for batch in batches.flatten(0, 1).tolist()}) > 4
    assert len(task_tensors(drawn, make_options(inner_batch=6), generator)) == 2, "all of them"
    maml = make_options(learner="maml")
    assert task_tensors(drawn, maml, generator)[2].shape == drawn.query_x.shape
    run(sampler, inner_batch=4)


def test_classes_are_turned_as_wholes(sampler: EpisodeSampler) -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = sampler.draw(20, generator)
    other = turned(drawn, generator)
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
    assert distance(run(sampler), run(sampler, turned=True)) > 1e-5


def test_more_steps_for_judging() -> None:
    options = make_options(judge_steps=50)
    assert (inner_of(options).num_steps, inner_of(options, judging=True).num_steps) == (2, 50)
    assert inner_of(make_options(), judging=True).num_steps == 2


def test_prototypes_learn_with_fewer_tasks(data: FewShotData) -> None:
    settings = {"learner": "fomaml", "outer_steps": 10, "tasks": 4, "inner_optimiser": "sgd"}
    settings |= {"outer_optimiser": "adam", "outer_lr": 0.01, "transductive": True}
    accuracy = {}
    for last in ("learned", "prototypes"):
        trained = run(data.sampler("train", SHAPE), **settings, last_layer=last)
        accuracies_T = judge(
            trained,
            data.sampler("valid", SHAPE),
            make_options(**settings, last_layer=last),
            num_tasks=200,
            generator=torch.Generator().manual_seed(3),
            engine=TaskEngine(ways={JUDGE: "plain"}),
        )
        accuracy[last] = float(accuracies_T.mean())
    assert accuracy["prototypes"] > accuracy["learned"] + 0.1


def test_reptile_has_no_queries_for_prototypes() -> None:
    with pytest.raises(ValueError, match="got reptile, which has no query images"):
        make_options(last_layer="prototypes")


def test_weights_that_are_not_finite_fail(sampler: EpisodeSampler) -> None:
    with pytest.raises(ChildFailedError, match="weights are not finite after step 0"):
        run(sampler, outer_lr=1e38, inner_lr=1e10, inner_optimiser="sgd")


def test_it_stops_when_told(sampler: EpisodeSampler) -> None:
    polls = iter([False, False, True])
    done: list[int] = []
    with pytest.raises(TrainingStopped):
        meta_train(
            FourConvolutions(1, 8, 3, channels=2),
            sampler,
            make_options(),
            generator=torch.Generator(),
            engine=TaskEngine(ways={TRAIN: "loop"}),
            should_stop=lambda: next(polls),
            on_step=done.append,
        )
    assert done == [1, 2]


def test_a_network_without_memory_fails_as_a_child(
    sampler: EpisodeSampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*args: object, **named: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ...")

    monkeypatch.setattr(TaskEngine, "run", no_memory)
    with pytest.raises(ChildFailedError, match="does not fit in memory"):
        run(sampler)


def test_both_ways_are_measured_for_both_kinds_of_work(data: FewShotData) -> None:
    measured = measured_ways(
        FourConvolutions(1, 8, 3, channels=2),
        data.sampler("train", SHAPE),
        data.sampler("valid", SHAPE),
        make_options(),
        torch.Generator(),
    )
    assert set(measured) == {TRAIN, JUDGE}
    for seconds in measured.values():
        assert set(seconds) == {"vmap", "loop", "channels_last", "plain"}
        assert min(seconds.values()) > 0
