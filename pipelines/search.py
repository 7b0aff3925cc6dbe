"""The search pipeline: prepare, pre-train, search, train, profile, promote."""

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from kfp import compiler, dsl

from components import declared
from components.config import Config, dumps
from components.image import IMAGE
from nascore.errors import InputError
from pipelines import resources

NAME = "nas-search"


class Found(NamedTuple):
    result: dsl.Artifact
    report: dsl.HTML


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
    prepared = declared.prepare_data(
        config=config, overrides=overrides, job_name=dsl.PIPELINE_JOB_NAME_PLACEHOLDER
    )
    common = {
        "run_key": prepared.outputs["run_key"],
        "config": prepared.outputs["resolved_config"],
        "dataset": prepared.outputs["dataset"],
    }
    pretrained = declared.pretrain_controller(**common)
    found = declared.search(**common, controller=pretrained.outputs["controller"])
    trained = declared.train_final(**common, search_result=found.outputs["search_result"])
    profiled = declared.profile_latency(**common, model=trained.outputs["model"])
    promoted = declared.promote(
        **common,
        controller=pretrained.outputs["controller"],
        search_result=found.outputs["search_result"],
        model=trained.outputs["model"],
        latency=profiled.outputs["latency"],
    )
    tasks = (prepared, pretrained, found, trained, profiled, promoted)
    for task, step in zip(tasks, resources.RESOURCES, strict=True):
        resources.apply(task, step)
    return Found(result=promoted.outputs["result"], report=promoted.outputs["report"])


def compile_search(config: Config, path: Path, *, image: str = IMAGE) -> None:
    """Writes the pipeline's IR YAML with `config` as the default of its parameter.

    The same configuration and image give the same bytes.

    Raises:
        InputError: the image has no tag or a moving one.
    """
    check_image(image)
    with tempfile.TemporaryDirectory() as folder:
        compiled = Path(folder) / "pipeline.yaml"
        parameters = {"config": dumps(config)}
        compiler.Compiler().compile(search_pipeline, str(compiled), pipeline_parameters=parameters)
        documents = list(yaml.safe_load_all(compiled.read_text()))
    for executor in documents[0]["deploymentSpec"]["executors"].values():
        executor["container"]["image"] = image
    path.write_text(yaml.safe_dump_all(documents, sort_keys=True))


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
