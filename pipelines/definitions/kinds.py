"""Kinds of pipelines, and their compilation."""

from pathlib import Path
from typing import Literal

from components.config.schema import Config
from components.image import IMAGE

Kind = Literal["search", "retrain"]
KINDS: tuple[Kind, ...] = ("search", "retrain")


def compile_pipeline(
    kind: Kind, config: Config, path: Path, *, image: str = IMAGE, for_cluster: bool = True
) -> None:
    """Write the pipeline of a kind as IR YAML; see `pipelines.definitions.search.compile_search`.

    Imports kfp, which takes a second.
    """
    if kind == "retrain":
        from pipelines.definitions.retrain import compile_retrain as compile_
    else:
        from pipelines.definitions.search import compile_search as compile_
    compile_(config, path, image=image, for_cluster=for_cluster)
