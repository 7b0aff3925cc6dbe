"""Retraining pipeline: the champion's architecture or a new one on new data, then promotion."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kfp import dsl
from kfp.dsl.base_component import BaseComponent

from components.config.schema import Config
from components.image import IMAGE
from components.steps.compiled import Compiled
from pipelines.definitions import compiling, resources, tasks
from pipelines.definitions.resources import without_gpu
from pipelines.definitions.search import (
    closing,
    division,
    finish,
    prepare,
    search,
    with_parameters,
)

NAME = "nas-retrain"
DESCRIPTION = "Retrains the model in production on new data; promotes it if it is better."
MOST_PODS = 6
"""Fewer than in a search pipeline, since this pipeline has more other tasks."""


def make_pipeline(
    config: Config, workers: Sequence[int], *, for_cluster: bool = True
) -> BaseComponent:
    """Return the pipeline; see `pipelines.definitions.search.make_pipeline`."""
    cluster = config.cluster

    def retrain_pipeline(**parameters: Any) -> None:
        with closing(config, parameters, closes=for_cluster):
            facts = Compiled(
                tuple(workers) if for_cluster else (),
                without_gpu(config) if for_cluster else (),
                searches=False,
                devices=config.training.devices,
            )
            dataset = prepare(config, parameters, facts)
            reviewed = tasks.review(dataset=dataset)
            resources.apply(reviewed, "review", cluster)
            # Each branch has its own final steps: kfp 2.17.3 cannot join the artifacts of branches
            # on one machine (it refuses dsl.OneOf).
            with dsl.If(reviewed.outputs["plan"] == "search", name="search anew"):
                finish(dataset, search(dataset, config, workers), config)
            with dsl.Else(name="reuse the champion"):
                reused = tasks.reuse(dataset=dataset, review=reviewed.outputs["review"])
                resources.apply(reused, "reuse", cluster)
                finish(dataset, dict(reused.outputs), config)

    return with_parameters(retrain_pipeline, NAME, DESCRIPTION)


def compile_retrain(
    config: Config, path: Path, *, image: str = IMAGE, for_cluster: bool = True
) -> None:
    """Write the pipeline's IR YAML; see `pipelines.definitions.search.compile_search`."""
    compiling.check_image(image)
    if for_cluster:
        compiling.check_cluster(config)
    workers = division(config, for_cluster=for_cluster, most_pods=MOST_PODS)
    pipeline = make_pipeline(config, workers, for_cluster=for_cluster)
    compiling.write(pipeline, path, image=image, for_cluster=for_cluster)
