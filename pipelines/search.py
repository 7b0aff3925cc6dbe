"""The search pipeline: prepare, pre-train, search, train, profile, promote."""

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from kfp import compiler, dsl
from kfp.dsl.base_component import BaseComponent

from components import declared
from components.config import Config, dumps
from components.image import IMAGE
from components.settings import ClusterConfig
from components.tracking import redact
from nascore.errors import InputError, Problem
from pipelines import resources
from pipelines.events import STEPS

NAME = "nas-search"
_OPEN = "anybody who can read the pipeline could read the password"


class Found(NamedTuple):
    result: dsl.Artifact
    report: dsl.HTML


def make_pipeline(
    cluster: ClusterConfig, *, workers_here: int, workers_elsewhere: int
) -> BaseComponent:
    """The pipeline.

    Args:
        cluster: what the tasks ask of it.
        workers_here: processes that train children within the search task.
        workers_elsewhere: tasks beside it that train children of the same study.
    """

    @dsl.pipeline(
        name=NAME,
        description="Finds, trains, profiles and registers a network for your data.",
    )
    def search_pipeline(config: str, overrides: str = "") -> Found:
        """Neural architecture search, end to end.

        Args:
            config: The whole configuration as JSON; the default is what was compiled in.
            overrides: Settings laid over it, such as `seed=1 search.budget.children=32`.
        """
        return _wire(config, overrides, cluster, workers_here, workers_elsewhere)

    return search_pipeline


def _wire(
    config: Any, overrides: Any, cluster: ClusterConfig, workers_here: int, workers_elsewhere: int
) -> Found:
    prepared = declared.prepare_data(
        config=config, overrides=overrides, job_name=dsl.PIPELINE_JOB_NAME_PLACEHOLDER
    )
    common = {
        "run_key": prepared.outputs["run_key"],
        "config": prepared.outputs["resolved_config"],
        "dataset": prepared.outputs["dataset"],
    }
    pretrained = declared.pretrain_controller(**common)
    learned = {"controller": pretrained.outputs["controller"]}
    if workers_elsewhere:
        places = list(range(1, workers_elsewhere + 1))
        with dsl.ParallelFor(items=places, parallelism=workers_elsewhere, name="workers") as place:
            worker = declared.search_worker(**common, **learned, place=place)
            resources.apply(worker, "search_worker", cluster)
    found = declared.search(**common, **learned, workers_here=workers_here)
    trained = declared.train_final(**common, search_result=found.outputs["search_result"])
    profiled = declared.profile_latency(**common, model=trained.outputs["model"])
    promoted = declared.promote(
        **common,
        **learned,
        search_result=found.outputs["search_result"],
        model=trained.outputs["model"],
        latency=profiled.outputs["latency"],
    )
    tasks = (prepared, pretrained, found, trained, profiled, promoted)
    for task, step in zip(tasks, STEPS, strict=True):
        resources.apply(task, step, cluster)
    return Found(result=promoted.outputs["result"], report=promoted.outputs["report"])


def compile_search(
    config: Config, path: Path, *, image: str = IMAGE, for_cluster: bool = True
) -> None:
    """Writes the pipeline's IR YAML with `config` as the default of its parameter.

    The same configuration and image give the same bytes.

    Args:
        for_cluster: `search.workers` are tasks of their own; else processes of the search task,
            since kfp runs two tasks at a time on one machine.

    Raises:
        InputError: the image has no tag or a moving one; workers on a cluster have no database in
            common, or its password would be readable in the file.
    """
    check_image(image)
    workers = config.search.workers
    if for_cluster:
        check_cluster(config)
    pipeline = make_pipeline(
        config.cluster,
        workers_here=1 if for_cluster else workers,
        workers_elsewhere=workers - 1 if for_cluster else 0,
    )
    with tempfile.TemporaryDirectory() as folder:
        compiled = Path(folder) / "pipeline.yaml"
        parameters = {"config": dumps(config)}
        compiler.Compiler().compile(pipeline, str(compiled), pipeline_parameters=parameters)
        documents = list(yaml.safe_load_all(compiled.read_text()))
    for executor in documents[0]["deploymentSpec"]["executors"].values():
        executor["container"]["image"] = image
    path.write_text(yaml.safe_dump_all(documents, sort_keys=True))


def check_cluster(config: Config) -> None:
    """Raises InputError unless the workers can share the study and no password is written down."""
    problems = []
    storage, uri = config.search.storage, config.tracking.uri
    if storage is None and config.search.workers > 1:
        problems.append(
            Problem(
                "search.storage",
                "",
                "workers on a cluster share a database; give the URL of a PostgreSQL server, or "
                "env:NAME of a variable that holds it",
            )
        )
    if storage is not None and redact(storage) != storage:
        message = "put the URL into a Secret, name it in cluster.secrets, and write env:NAME here"
        problems.append(Problem("search.storage", redact(storage), f"{_OPEN}; {message}"))
    if redact(uri) != uri:
        message = "give MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD by cluster.secrets"
        problems.append(Problem("tracking.uri", redact(uri), f"{_OPEN}; {message}"))
    if problems:
        raise InputError(problems)


def check_image(image: str) -> None:
    """Raises InputError unless the image is named by digest or by a tag that stays."""
    name = image.rpartition("/")[2]
    tag = name.partition(":")[2]
    if "@sha256:" in image or (tag and tag != "latest"):
        return
    raise InputError.of(
        "--image",
        image,
        "name a digest or a tag that never moves (not latest): KFP caches by this name",
    )


def load(path: Path) -> dict[str, Any]:
    """The first document of a compiled pipeline."""
    document: dict[str, Any] = next(iter(yaml.safe_load_all(path.read_text())))
    return document
