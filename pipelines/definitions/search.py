"""Search pipeline: prepare, pre-train, search, train, profile, compare, promote."""

import contextlib
import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from kfp import dsl
from kfp.dsl.base_component import BaseComponent

from components.config.parameters import descriptions
from components.config.schema import Config, dumps
from components.image import IMAGE
from components.steps.compiled import Compiled
from nascore.methods.registry import METHODS
from pipelines.definitions import compiling, resources, tasks
from pipelines.definitions.resources import without_gpu

NAME = "nas-search"
DESCRIPTION = "Finds, trains, profiles and registers a network for your data."
MOST_PODS = 8
"""Default number of pods of a search. Kubeflow's list of a run's tasks becomes stale when Argo's
status of the workflow exceeds 1 MB (tests/pipelines/definitions/test_node_status.py)."""


def division(config: Config, *, for_cluster: bool, most_pods: int = MOST_PODS) -> tuple[int, ...]:
    """Return the processes that train children: in the search task, then in each further pod.

    They are processes of the search task on one machine, where kfp runs at most two tasks at a
    time, and if they train one network together, with a GPU each.
    """
    count = config.search.workers
    if not for_cluster or METHODS[config.method].worker_layout == "group":
        return (count,)
    per_pod = config.cluster.workers_per_pod or math.ceil(count / most_pods)
    pods = (count - 1) // per_pod
    return (count - pods * per_pod, *(per_pod for _ in range(pods)))


def make_pipeline(
    config: Config, workers: Sequence[int], *, for_cluster: bool = True
) -> BaseComponent:
    """Return the pipeline.

    Args:
        config: configuration of the run.
        workers: see `division`.
        for_cluster: whether an exit task closes the MLflow runs that are still open; on one machine
            `nas run` does it.
    """

    def search_pipeline(**parameters: Any) -> None:
        with closing(config, parameters, closes=for_cluster):
            facts = Compiled(
                tuple(workers) if for_cluster else (),
                without_gpu(config) if for_cluster else (),
                searches=True,
                devices=config.training.devices,
            )
            dataset = prepare(config, parameters, facts)
            finish(dataset, search(dataset, config, workers), config, compares=True)

    return with_parameters(search_pipeline, NAME, DESCRIPTION)


def compile_search(
    config: Config, path: Path, *, image: str = IMAGE, for_cluster: bool = True
) -> None:
    """Write the pipeline's IR YAML, with `config` as what a run does without parameters.

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
    pipeline = make_pipeline(
        config, division(config, for_cluster=for_cluster), for_cluster=for_cluster
    )
    compiling.write(pipeline, path, image=image, for_cluster=for_cluster)


# --- parts that pipelines share ---------------------------------------------------------------


def with_parameters(build: Callable[..., None], name: str, description: str) -> BaseComponent:
    """Return the pipeline that `build` makes of the parameters of `components.config.parameters`.

    Args:
        build: adds the tasks; gets each parameter by its name.
        name: of the pipeline.
        description: of the pipeline.
    """
    names = descriptions()

    def pipeline(*values: Any) -> None:
        build(**dict(zip(names, values, strict=True)))

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    pipeline.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(one, kind, default="", annotation=str) for one in names]
    )
    lines = [f"    {one}: {text}" for one, text in names.items()]
    pipeline.__doc__ = "\n".join([description, "", "Args:", *lines])
    made: BaseComponent = dsl.pipeline(pipeline, name=name, description=description)
    return made


@contextlib.contextmanager
def closing(config: Config, parameters: dict[str, Any], *, closes: bool) -> Iterator[None]:
    """Run a task after those of the block, however they end, that closes open MLflow runs."""
    if not closes:
        yield
        return
    # The status of the workflow has the text of a constant several times.
    text = config.model_dump_json(exclude={"cluster"})
    task = tasks.close_run(config=text, **parameters)
    resources.apply(task, "close_run", config.cluster)
    with dsl.ExitHandler(task, name="run"):
        yield


def prepare(config: Config, parameters: dict[str, Any], compiled: Compiled) -> Any:
    """Add the first step; return the data, which all later ones read."""
    prepared = tasks.prepare_data(
        config=dumps(config),
        compiled=compiled.to_dict(),
        job_name=dsl.PIPELINE_JOB_NAME_PLACEHOLDER,
        **parameters,
    )
    resources.apply(prepared, "prepare_data", config.cluster)
    return prepared.outputs["dataset"]


def search(dataset: Any, config: Config, workers: Sequence[int]) -> dict[str, Any]:
    """Add pre-training, search and its workers; return the artifacts of the search."""
    cluster = config.cluster
    trains_children = METHODS[config.method].worker_layout == "study"
    devices = config.training.devices if trains_children else 1
    pretrained = tasks.pretrain_controller(dataset=dataset)
    resources.apply(pretrained, "pretrain_controller", cluster)
    inputs = {"dataset": dataset, "controller": pretrained.outputs["controller"]}
    # Single tasks and no loop: a loop has twice the nodes in Argo's status, and Kubeflow's Retry of
    # a run with a loop hangs.
    for place, count in enumerate(workers[1:], start=1):
        worker = tasks.search_worker(**inputs, place=place)
        resources.apply(worker, "search_worker", cluster, processes=count * devices)
        worker.set_display_name(f"search worker {place}")
    found = tasks.search(**inputs)
    resources.apply(found, "search", cluster, processes=workers[0] * devices)
    return {name: found.outputs[name] for name in ("search_result", "weights")}


def finish(
    dataset: Any, searched: dict[str, Any], config: Config, *, compares: bool = False
) -> None:
    """Add final training, latency and promotion.

    Args:
        dataset: the prepared data.
        searched: artifacts of the search.
        config: configuration of the run.
        compares: whether standard networks are trained before the promotion.
    """
    cluster, devices = config.cluster, config.training.devices
    trained = tasks.train_final(dataset=dataset, **searched)
    model = trained.outputs["model"]
    profiled = tasks.profile_latency(dataset=dataset, model=model)
    found = {"dataset": dataset, "search_result": searched["search_result"], "model": model}
    more = {}
    if compares:
        compared = tasks.train_references(**found).after(profiled)  # nothing disturbs the latency
        resources.apply(compared, "train_references", cluster, processes=devices)
        more = {"references": compared.outputs["references"]}
    promoted = tasks.promote(**found, latency=profiled.outputs["latency"], **more)
    resources.apply(trained, "train_final", cluster, processes=devices)
    resources.apply(profiled, "profile_latency", cluster)
    resources.apply(promoted, "promote", cluster)
