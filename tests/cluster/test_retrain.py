"""The retraining pipeline on pods, in all its branches: the life of one model."""

from collections.abc import Callable
from typing import Any

import pytest
from cluster import Cluster, Run
from cluster.checks import REUSE, check_registry, check_tracked, nothing_is_running
from cluster.surroundings import Surroundings

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

NAME = "retrained"


class Life:
    """Retrainings one after the other, in one namespace with one model."""

    def __init__(self, cluster: Cluster, surroundings: Surroundings, image: str) -> None:
        self._cluster, self._surroundings, self._image = cluster, surroundings, image
        surroundings.furnish(cluster)

    def retrain(self, **changed: Any) -> Run:
        settings = {key.replace("__", "."): value for key, value in changed.items()}
        pipeline = self._surroundings.compile("retrain", self._image, NAME, settings)
        run = self._cluster.submit(pipeline)
        run.wait(500)
        assert run.state == "SUCCEEDED", run.tell()
        nothing_is_running(self._surroundings, NAME)
        return run


@pytest.fixture(scope="module")
def life(make_cluster: Callable[..., Cluster], surroundings: Surroundings, image: str) -> Life:
    return Life(make_cluster(), surroundings, image)


def tasks(run: Run) -> list[str]:
    return [pod.task for pod in run.pods]


def plan(surroundings: Surroundings, run: Run) -> str:
    return str(check_registry(surroundings, NAME, run).tags.get("nas.plan"))


def test_without_a_champion_it_searches(life: Life, surroundings: Surroundings) -> None:
    run = life.retrain()
    assert "search" in tasks(run)
    assert "reuse" not in tasks(run)
    steps = ("prepare_data", "review", "pretrain_controller", "search", "train_final", "promote")
    check_tracked(surroundings, NAME, run, steps)
    assert surroundings.champion(NAME) == check_registry(surroundings, NAME, run).version


def test_the_champions_architecture_is_trained_on_like_data(
    life: Life, surroundings: Surroundings
) -> None:
    """C1: `reuse` hands on two empty folders."""
    source = surroundings.put_digits("more.npz", num_train=600)
    run = life.retrain(data__source=source)
    assert "search" not in tasks(run)
    check_tracked(surroundings, NAME, run, REUSE)
    assert len(surroundings.models(NAME)) == 2


def test_other_data_are_searched_again(life: Life, surroundings: Surroundings) -> None:
    source = surroundings.put_digits("inverted.npz", wrong=True)
    run = life.retrain(data__source=source)
    assert "search" in tasks(run)
    assert "reuse" not in tasks(run)
    assert len(surroundings.models(NAME)) == 3
