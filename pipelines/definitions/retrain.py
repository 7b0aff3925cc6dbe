"""Retraining pipeline: the champion's architecture or a new one on new data, then promotion."""

from pathlib import Path

from kfp import dsl
from kfp.dsl.base_component import BaseComponent

from components.config.schema import Config
from components.config.settings import ClusterConfig
from components.image import IMAGE
from pipelines.definitions import compiling, resources, tasks
from pipelines.definitions.search import Workers, closing, finish, prepare, search

NAME = "nas-retrain"
MOST_PODS = 6
"""Fewer than in a search pipeline, since this pipeline has more other tasks."""


def make_pipeline(
    cluster: ClusterConfig, workers: Workers, *, closes: bool = True
) -> BaseComponent:
    """Return the pipeline; see `pipelines.definitions.search.make_pipeline`."""

    @dsl.pipeline(
        name=NAME,
        description="Retrains the model in production on new data; promotes it if it is better.",
    )
    def retrain_pipeline(config: str, overrides: str = "") -> None:
        """Retraining with champion and challenger.

        Args:
            config: The whole configuration as JSON; the default is what was compiled in.
            overrides: Settings laid over it, such as `data.source=imagefolder:s3://bucket/2026-12`.
        """
        with closing(config, overrides, cluster, closes=closes):
            common = prepare(config, overrides, cluster, searches=False)
            reviewed = tasks.review(**common)
            resources.apply(reviewed, "review", cluster)
            # Each branch has its own final steps: kfp 2.17.3 cannot join the artifacts of branches
            # on one machine (it refuses dsl.OneOf).
            with dsl.If(reviewed.outputs["plan"] == "search", name="search-again"):
                finish(common, search(common, cluster, workers), cluster)
            with dsl.Else(name="keep-the-architecture"):
                reused = tasks.reuse(
                    run_key=common["run_key"],
                    dataset=common["dataset"],
                    review=reviewed.outputs["review"],
                )
                resources.apply(reused, "reuse", cluster)
                names = ("controller", "search_result", "weights")
                finish(common, {name: reused.outputs[name] for name in names}, cluster)

    return retrain_pipeline


def compile_retrain(
    config: Config, path: Path, *, image: str = IMAGE, for_cluster: bool = True
) -> None:
    """Write the pipeline's IR YAML; see `pipelines.definitions.search.compile_search`."""
    compiling.check_image(image)
    if for_cluster:
        compiling.check_cluster(config)
    workers = Workers.of(config, for_cluster=for_cluster, most_pods=MOST_PODS)
    pipeline = make_pipeline(config.cluster, workers, closes=for_cluster)
    compiling.write(pipeline, config, path, image=image, for_cluster=for_cluster)
