"""The KFP signatures of the steps. They do no work: one import, one call.

Docstrings are what users read in the Kubeflow UI; kfp looks for outputs under "Returns", artifacts
included. `pipelines.definitions.tasks` makes KFP components of these functions, and
`components.execute` calls them in a pod. This module must not use `from __future__ import
annotations`: kfp reads the annotations. It imports little, since every step waits for it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from kfp.dsl import (
    HTML,
    Artifact,
    ClassificationMetrics,
    Dataset,
    Input,
    Metrics,
    Model,
    Output,
    PipelineTaskFinalStatus,
)

from components.steps.state import CONFIG


def prepare_data(
    config: str,
    overrides: str,
    job_name: str,
    searches: bool,
    dataset: Output[Dataset],
    metrics: Output[Metrics],
) -> NamedTuple("Prepared", [("run_key", str)]):  # type: ignore[valid-type]
    """Settles the configuration, reads and checks the data, and splits it.

    Args:
        config: The whole configuration as JSON or YAML.
        overrides: Settings laid over it, `key.path=value` separated by spaces; may be empty.
        job_name: Name of this run in Kubeflow; becomes a tag of the tracked run.
        searches: Whether a search is sure to follow; its study is looked at beforehand.

    Returns:
        dataset: Folder with images, labels, split indices, `dataset.json`, and the configuration
            that counts, `config.json`.
        metrics: Numbers of images and classes.
        run_key: Key by which all steps find the tracked run of this pipeline.
    """
    from components.steps import prepare_data as step

    prepared = step.run(
        config=config,
        overrides=overrides,
        job_name=job_name,
        searches=searches,
        resolved_config=Path(dataset.path) / CONFIG,
        dataset=Path(dataset.path),
    )
    _log(metrics, prepared.metrics)
    return NamedTuple("Prepared", [("run_key", str)])(prepared.run_key)  # type: ignore[operator]


def review(
    run_key: str,
    dataset: Input[Dataset],
    review: Output[Artifact],
    metrics: Output[Metrics],
) -> NamedTuple("Reviewed", [("plan", str)]):  # type: ignore[valid-type]
    """Compares new data with the champion's, and decides whether an architecture is searched anew.

    Args:
        run_key: Key of the tracked run, from prepare_data.
        dataset: The new data, from prepare_data.

    Returns:
        review: The plan and its reason, the drift, and the search that found the champion, as JSON.
        metrics: Drift of class shares and of pixel values (population stability index).
        plan: `search` or `reuse`.
    """
    from components.steps import review as step

    reviewed = step.run(
        run_key=run_key,
        config=Path(dataset.path) / CONFIG,
        dataset=Path(dataset.path),
        review=Path(review.path),
    )
    _log(metrics, reviewed.metrics)
    return NamedTuple("Reviewed", [("plan", str)])(reviewed.plan)  # type: ignore[operator]


def reuse(
    run_key: str,
    dataset: Input[Dataset],
    review: Input[Artifact],
    controller: Output[Model],
    search_result: Output[Artifact],
    weights: Output[Model],
    metrics: Output[Metrics],
) -> None:
    """Hands on the architecture of the champion, where no search is needed.

    Args:
        run_key: Key of the tracked run, from prepare_data.
        dataset: The new data, from prepare_data; only its configuration is read.
        review: From review.

    Returns:
        controller: An empty folder; nothing is learned before a search that does not take place.
        search_result: The search that found the champion, as JSON.
        weights: An empty folder.
        metrics: Validation accuracy of the architecture in that search (fraction).
    """
    from components.steps import reuse as step

    values = step.run(
        run_key=run_key,
        config=Path(dataset.path) / CONFIG,
        review=Path(review.path),
        controller=Path(controller.path),
        search_result=Path(search_result.path),
        weights=Path(weights.path),
    )
    _log(metrics, values)


def pretrain_controller(
    run_key: str,
    dataset: Input[Dataset],
    controller: Output[Model],
    metrics: Output[Metrics],
) -> None:
    """Trains what the method learns before any child is trained (NASES: encoder and decoder).

    Args:
        run_key: Key of the tracked run, from prepare_data.
        dataset: The data, from prepare_data.

    Returns:
        controller: Folder that the search starts from.
        metrics: The method's own figures, such as held-out reconstruction accuracy (fractions).
    """
    from components.steps import pretrain_controller as step

    values = step.run(
        run_key=run_key,
        config=Path(dataset.path) / CONFIG,
        dataset=Path(dataset.path),
        controller=Path(controller.path),
    )
    _log(metrics, values)


def search(
    run_key: str,
    dataset: Input[Dataset],
    controller: Input[Model],
    workers_here: int,
    search_result: Output[Artifact],
    weights: Output[Model],
    metrics: Output[Metrics],
) -> None:
    """Searches within the budget, and runs random search at equal cost beside it.

    Args:
        run_key: Key of the tracked run, from prepare_data.
        dataset: The data, from prepare_data.
        controller: What pretrain_controller learned.
        workers_here: Processes that train children in this task; more may work in other tasks.

    Returns:
        search_result: Genotype, all children, control and verdict, as JSON.
        weights: Folder with what the final training starts from; empty where it starts anew.
        metrics: Validation accuracy of the best child (fraction) and number of children.
    """
    from components.steps import search as step

    values = step.run(
        run_key=run_key,
        config=Path(dataset.path) / CONFIG,
        dataset=Path(dataset.path),
        controller=Path(controller.path),
        workers_here=workers_here,
        search_result=Path(search_result.path),
        weights=Path(weights.path),
    )
    _log(metrics, values)


def search_worker(
    run_key: str,
    dataset: Input[Dataset],
    controller: Input[Model],
    place: int,
    workers_here: int,
) -> None:
    """Trains children of the study that the search task collects, until the budget is spent.

    Args:
        run_key: Key of the tracked run, from prepare_data; names the study.
        dataset: The data, from prepare_data.
        controller: What pretrain_controller learned.
        place: Number of this pod of workers, from 1.
        workers_here: Processes that train children in this pod.
    """
    from components.steps import search_worker as step

    step.run(
        run_key=run_key,
        config=Path(dataset.path) / CONFIG,
        dataset=Path(dataset.path),
        controller=Path(controller.path),
        place=place,
        workers_here=workers_here,
    )


def train_final(
    run_key: str,
    dataset: Input[Dataset],
    search_result: Input[Artifact],
    weights: Input[Model],
    model: Output[Model],
    classes: Output[ClassificationMetrics],
    metrics: Output[Metrics],
) -> None:
    """Trains the winner and judges it once on the test split.

    Args:
        run_key: Key of the tracked run, from prepare_data.
        dataset: The data, from prepare_data.
        search_result: The found architecture, from search.
        weights: What the training starts from, from search; empty where it starts anew.

    Returns:
        model: Folder with the weights and `model.json`.
        classes: Confusion matrix (up to 50 classes) and ROC curve on the test split.
        metrics: Accuracies (fractions), parameters, multiply-adds of one image.
    """
    from components.kfp_figures import log_classes
    from components.steps import train_final as step

    values = step.run(
        run_key=run_key,
        config=Path(dataset.path) / CONFIG,
        dataset=Path(dataset.path),
        search_result=Path(search_result.path),
        weights=Path(weights.path),
        model=Path(model.path),
    )
    _log(metrics, values)
    log_classes(classes, Path(model.path))
    model.metadata.update(values)


def profile_latency(
    run_key: str,
    dataset: Input[Dataset],
    model: Input[Model],
    latency: Output[Artifact],
    metrics: Output[Metrics],
) -> None:
    """Measures the latency of the trained network on this node.

    Args:
        run_key: Key of the tracked run, from prepare_data.
        dataset: The data, from prepare_data.
        model: The trained network, from train_final.

    Returns:
        latency: Percentiles in milliseconds with device, batch size and protocol, as JSON.
        metrics: Median and 95th percentile in milliseconds.
    """
    from components.steps import profile_latency as step

    values = step.run(
        run_key=run_key,
        config=Path(dataset.path) / CONFIG,
        dataset=Path(dataset.path),
        model=Path(model.path),
        latency=Path(latency.path),
    )
    _log(metrics, values)


def promote(
    run_key: str,
    dataset: Input[Dataset],
    controller: Input[Model],
    search_result: Input[Artifact],
    model: Input[Model],
    latency: Input[Artifact],
    result: Output[Artifact],
    report: Output[HTML],
    metrics: Output[Metrics],
) -> None:
    """Registers the model, makes it champion or challenger, and writes result and report.

    Args:
        run_key: Key of the tracked run, from prepare_data.
        dataset: The data, from prepare_data; the champion is compared on its test split.
        controller: From pretrain_controller; only what it cost is read.
        search_result: From search.
        model: From train_final.
        latency: From profile_latency.

    Returns:
        result: The summary of the run, `result.json`.
        report: One self-contained HTML page.
        metrics: Test accuracy (fraction), latency (milliseconds), size of the promoted model.
    """
    from components.steps import promote as step

    values = step.run(
        run_key=run_key,
        config=Path(dataset.path) / CONFIG,
        dataset=Path(dataset.path),
        controller=Path(controller.path),
        search_result=Path(search_result.path),
        model=Path(model.path),
        latency=Path(latency.path),
        result=Path(result.path),
        report=Path(report.path),
    )
    _log(metrics, values)


def close_run(config: str, overrides: str, status: PipelineTaskFinalStatus) -> None:
    """Closes what an ended run has left open: MLflow runs, trials, events that were not sent.

    Args:
        config: The whole configuration as JSON or YAML.
        overrides: Settings laid over it.
        status: How the pipeline ended; Kubeflow fills it in.
    """
    from components.steps import close_run as step

    step.run(
        config=config,
        overrides=overrides,
        status=status.state,
        message=status.error_message or "",
    )


def _log(metrics: Metrics, values: Mapping[str, float]) -> None:
    for name, value in values.items():
        metrics.log_metric(name, value)
