"""Search pipeline: prepare, pre-train, search, train, profile, promote."""

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
"""Default number of pods of a search. Kubeflow's list of a run's tasks becomes stale when Argo's
status of the workflow exceeds 1 MB (tests/pipelines/definitions/test_node_status.py)."""


class Workers(NamedTuple):
    """Processes that train children: in the search task, and in pods of workers.

    Attributes:
        here: number of processes in the search task.
        pods: number of further pods.
        per_pod: number of processes in each of them.
    """

    here: int
    pods: int = 0
    per_pod: int = 1

    @classmethod
    def of(cls, config: Config, *, for_cluster: bool, most_pods: int = MOST_PODS) -> "Workers":
        """Return the division of `search.workers`.

        They are processes of the search task on one machine, where kfp runs at most two tasks at a
        time, and if they train one network together, with a GPU each.
        """
        count = config.search.workers
        if not for_cluster or METHODS[config.method].worker_layout == "group":
            return cls(count)
        per_pod = config.cluster.workers_per_pod or math.ceil(count / most_pods)
        pods = (count - 1) // per_pod
        return cls(count - pods * per_pod, pods, per_pod)


def make_pipeline(
    cluster: ClusterConfig, workers: Workers, *, closes: bool = True
) -> BaseComponent:
    """Return the pipeline.

    Args:
        cluster: settings of the cluster.
        workers: processes that train children.
        closes: whether an exit task closes the MLflow runs that are still open.
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
    """Write the pipeline's IR YAML with `config` as the default of its parameter.

    Args:
        config: configuration of the run.
        path: file to write.
        image: image of all steps.
        for_cluster: whether `search.workers` are pods; the file must then contain no secrets.

    Raises:
        InputError: the image has no tag or a moving one; workers on a cluster share no database, or
            its password would be readable in the file.
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
    """Run a task after those of the block, however they end, that closes open MLflow runs.

    On one machine `nas run` does it itself.
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
    """Add the first step; return the arguments of all later ones."""
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
    """Add pre-training, search and its workers; return their artifacts."""
    pretrained = tasks.pretrain_controller(**common)
    resources.apply(pretrained, "pretrain_controller", cluster)
    learned = {"controller": pretrained.outputs["controller"]}
    # Single tasks and no loop: a loop has twice the nodes in Argo's status, and Kubeflow's Retry of
    # a run with a loop hangs.
    for place in range(1, workers.pods + 1):
        worker = tasks.search_worker(**common, **learned, place=place, workers_here=workers.per_pod)
        resources.apply(worker, "search_worker", cluster, processes=workers.per_pod)
        worker.set_display_name(f"search worker {place}")
    found = tasks.search(**common, **learned, workers_here=workers.here)
    resources.apply(found, "search", cluster, processes=workers.here)
    return {**learned, **{name: found.outputs[name] for name in ("search_result", "weights")}}


def finish(common: dict[str, Any], searched: dict[str, Any], cluster: ClusterConfig) -> None:
    """Add final training, latency and promotion."""
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
