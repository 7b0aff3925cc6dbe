"""The whole search on pods, from data in S3 to the alias in MLflow, with every method."""

from collections.abc import Callable
from typing import Any

import pytest
from cluster import Cluster
from cluster.checks import SEARCH, check_success
from cluster.surroundings import Surroundings

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

NONE: dict[str, Any] = {"search.space.num_stages": "", "search.budget.children": ""}
METHODS: dict[str, dict[str, Any]] = {
    "nases": {
        "search.options.autoencoder.steps": 60,
        "search.options.autoencoder.num_strings": 500,
    },
    "memory-enas": {
        **NONE,
        "search.budget.steps": 20,
        "search.space.search_channels": 4,
        "search.space.final_channels": 4,
        "search.options.memory.pretrain_steps": 20,
    },
    "nasib": {
        **NONE,
        "search.budget.steps": 60,
        "search.space.num_nodes": 2,
        "search.space.num_stages": 1,
        "search.space.search_channels": 4,
        "search.space.final_channels": 4,
    },
    "instanas": {
        **NONE,
        "search.budget.steps": 20,
        "search.space.stages": "[[8, 1, 1], [8, 1, 2]]",
        "search.space.stem_channels": 8,
        "search.space.head_channels": 16,
        "search.options.pretraining.epochs": 1,
        "search.options.turn_steps": 5,
        "search.options.num_points": 1,
    },
    "auto-meta": {
        **NONE,
        "search.budget.children": 3,
        "search.child.epochs": "",
        "search.child.max_steps": "",
        "train.epochs": "",
        "train.max_steps": "",
        "search.options.meta.outer_steps": 3,
        "search.options.valid_episodes": 4,
        "search.options.progressive.num_first_stage": 2,
        "search.options.final.outer_steps": 5,
    },
}
STUDIES = {"nases": 2, "auto-meta": 3}  # children of the methods that propose


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gets_from_data_in_s3_to_the_alias(
    make_cluster: Callable[..., Cluster], surroundings: Surroundings, image: str, method: str
) -> None:
    """C1: an empty folder between two steps does not arrive."""
    cluster = make_cluster()
    url = surroundings.furnish(cluster)
    changed = {"method": method, **METHODS[method]}
    pipeline = surroundings.compile("search", image, method, changed)
    run = cluster.submit(pipeline)
    run.wait(500)
    check_success(surroundings, method, url, run, children=STUDIES.get(method))
    assert [pod.task for pod in run.pods] == [
        *(one.replace("_", "-") for one in SEARCH),
        "close-run",
    ]


def test_two_workers_share_a_study_in_postgresql(
    make_cluster: Callable[..., Cluster], surroundings: Surroundings, image: str
) -> None:
    """As an arbitrary user of group 0, with the artifacts below s3:// and the state in S3."""
    cluster = make_cluster(user="1000660000:0", scheme="s3", grace_s=1.0)
    url = surroundings.furnish(cluster)
    changed = {
        "method": "tpe",
        "search.workers": 2,
        "search.budget.children": 6,
        "search.child.max_steps": 60,
        "cluster.run_as_user": "null",
        "cluster.state": "s3://nas-state/workers",
    }
    pipeline = surroundings.compile("search", image, "workers", changed)
    run = cluster.submit(pipeline)
    run.wait(500)
    check_success(surroundings, "workers", url, run, children=6)
    assert [pod.task for pod in run.pods].count("search-worker") == 1
