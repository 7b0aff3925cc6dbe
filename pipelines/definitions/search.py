"""The search pipeline: prepare, pre-train, search, train, profile, promote."""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from kfp import dsl
from kfp.dsl.base_component import BaseComponent

from components.config.schema import Config
from components.config.settings import ClusterConfig
from components.image import IMAGE
from nascore.methods.registry import METHODS
from pipelines.definitions import compiling, resources, tasks

NAME = "nas-search"
MOST_PODS = 8
"""Pods of a search unless the configuration says other. Kubeflow's list of a run's tasks stands
still when Argo's status of the workflow passes 1 MB (tests/pipelines/test_node_status.py)."""


class Workers(NamedTuple):
    """Who trains children: processes of the search task, and pods of workers.

    Attributes:
        here: processes in the search task.
        pods: further pods.
        per_pod: processes in each of them.
    """

    here: int
    pods: int = 0
    per_pod: int = 1

    @classmethod
    def of(cls, config: Config, *, for_cluster: bool, most_pods: int = MOST_PODS) -> "Workers":
        """kfp runs two tasks at a time on one machine, so there the workers are processes; and so
        they are, with a GPU each, where they train one network together."""
        count = config.search.workers
        if not for_cluster or METHODS[config.method].shares_batches:
            return cls(count)
        per_pod = config.cluster.workers_per_pod or math.ceil(count / most_pods)
        pods = (count - 1) // per_pod
        return cls(count - pods * per_pod, pods, per_pod)


def make_pipeline(
    cluster: ClusterConfig, workers: Workers, *, closes: bool = True
) -> BaseComponent:
    """The pipeline.

    Args:
        cluster: what its tasks ask of it.
        workers: who trains children.
        closes: whether an exit task closes what the run leaves open.
    """

    @dsl.pipeline(
        name=NAME,
        description="Finds, trains, profiles and registers a network for your data.",
    )
    def search_pipeline(config: str, overrides: str = "") -> None:
        """Neural architecture search, end to end.

        Args:
            config: The whole configuration as JSON; the default is what was compiled in.
            overrides: Settings laid over it, such as `seed=1 search.budget.children=32`.
        """
        with closing(config, overrides, cluster, closes=closes):
            common = prepare(config, overrides, cluster, searches=True)
            finish(common, search(common, cluster, workers), cluster)

    return search_pipeline


def compile_search(
    config: Config, path: Path, *, image: str = IMAGE, for_cluster: bool = True
) -> None:
    """Writes the pipeline's IR YAML with `config` as the default of its parameter.

    Args:
        for_cluster: `search.workers` are tasks of their own, and nothing secret may be in the file.

    Raises:
        InputError: the image has no tag or a moving one; workers on a cluster have no database in
            common, or its password would be readable in the file.
    """
    compiling.check_image(image)
    if for_cluster:
        compiling.check_cluster(config)
    workers = Workers.of(config, for_cluster=for_cluster)
    pipeline = make_pipeline(config.cluster, workers, closes=for_cluster)
    compiling.write(pipeline, config, path, image=image, for_cluster=for_cluster)


# --- parts that pipelines share ---------------------------------------------------------------


@contextlib.contextmanager
def closing(config: Any, overrides: Any, cluster: ClusterConfig, *, closes: bool) -> Iterator[None]:
    """Runs a task after those of the block, however they end, that closes what the run left open.

    On one machine `nas run` itself sees to that.
    """
    if not closes:
        yield
        return
    task = tasks.close_run(config=config, overrides=overrides)
    resources.apply(task, "close_run", cluster)
    with dsl.ExitHandler(task, name="run"):
        yield


def prepare(
    config: Any, overrides: Any, cluster: ClusterConfig, *, searches: bool
) -> dict[str, Any]:
    """The first step; returns what all later ones take."""
    prepared = tasks.prepare_data(
        config=config,
        overrides=overrides,
        job_name=dsl.PIPELINE_JOB_NAME_PLACEHOLDER,
        searches=searches,
    )
    resources.apply(prepared, "prepare_data", cluster)
    return {
        "run_key": prepared.outputs["run_key"],
        "dataset": prepared.outputs["dataset"],
    }


def search(common: dict[str, Any], cluster: ClusterConfig, workers: Workers) -> dict[str, Any]:
    """Pre-training and search, with further workers beside it; returns their artifacts."""
    pretrained = tasks.pretrain_controller(**common)
    resources.apply(pretrained, "pretrain_controller", cluster)
    learned = {"controller": pretrained.outputs["controller"]}
    # Single tasks and no loop: one has twice the nodes in Argo's status, and Kubeflow's Retry of a
    # run with a loop hangs.
    for place in range(1, workers.pods + 1):
        worker = tasks.search_worker(**common, **learned, place=place, workers_here=workers.per_pod)
        resources.apply(worker, "search_worker", cluster, processes=workers.per_pod)
        worker.set_display_name(f"search worker {place}")
    found = tasks.search(**common, **learned, workers_here=workers.here)
    resources.apply(found, "search", cluster, processes=workers.here)
    return {**learned, **{name: found.outputs[name] for name in ("search_result", "weights")}}


def finish(common: dict[str, Any], searched: dict[str, Any], cluster: ClusterConfig) -> None:
    """Final training, latency, promotion."""
    trained = tasks.train_final(
        **common, search_result=searched["search_result"], weights=searched["weights"]
    )
    profiled = tasks.profile_latency(**common, model=trained.outputs["model"])
    promoted = tasks.promote(
        **common,
        controller=searched["controller"],
        search_result=searched["search_result"],
        model=trained.outputs["model"],
        latency=profiled.outputs["latency"],
    )
    for task, step in ((trained, "train_final"), (profiled, "profile_latency")):
        resources.apply(task, step, cluster)
    resources.apply(promoted, "promote", cluster)
