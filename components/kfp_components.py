"""The KFP signatures of the steps. Each function imports its step and calls it.

Users read the docstrings in the Kubeflow UI; kfp looks for outputs under "Returns", artifacts
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


def prepare_data(
    config: str,
    overrides: str,
    job_name: str,
    searches: bool,
    dataset: Output[Dataset],
    metrics: Output[Metrics],
) -> NamedTuple("Prepared", [("run_key", str)]):  # type: ignore[valid-type]
    """Resolve the configuration, read, check and split the data.

    Args:
        config: The whole configuration as JSON or YAML.
        overrides: Settings that override it, `key.path=value` separated by spaces; may be empty.
        job_name: Name of this run in Kubeflow; becomes a tag of the tracked run.
        searches: Whether a search is sure to follow; its study is then checked here.

    Returns:
        dataset: Folder with images, labels, split indices, `dataset.json`, and the resolved
            configuration, `config.json`.
        metrics: Numbers of images and classes.
        run_key: Key by which all steps find the tracked run of this pipeline.
    """
    from components.steps import prepare_data as step

    prepared = step.run(
        config=config,
        overrides=overrides,
        job_name=job_name,
        searches=searches,
        **_paths(dataset=dataset),
    )
    _log(metrics, prepared.metrics)
    return NamedTuple("Prepared", [("run_key", str)])(prepared.run_key)  # type: ignore[operator]


def review(
    run_key: str,
    dataset: Input[Dataset],
    review: Output[Artifact],
    metrics: Output[Metrics],
) -> NamedTuple("Plan", [("plan", str)]):  # type: ignore[valid-type]
    """Compare new data with the champion's, and decide whether to search an architecture.

    Args:
        run_key: Key of the tracked run, from prepare_data.
        dataset: The new data, from prepare_data.

    Returns:
        review: The plan and its reason, the drift, and the search that found the champion, as JSON.
        metrics: Drift of class shares and of pixel values (population stability index).
        plan: `search` or `reuse`.
    """
    from components.steps import review as step

    reviewed = step.run(run_key=run_key, **_paths(dataset=dataset, review=review))
    _log(metrics, reviewed.metrics)
    return NamedTuple("Plan", [("plan", str)])(reviewed.plan)  # type: ignore[operator]


def reuse(
    run_key: str,
    dataset: Input[Dataset],
    review: Input[Artifact],
    controller: Output[Model],
    search_result: Output[Artifact],
    weights: Output[Model],
    metrics: Output[Metrics],
) -> None:
    """Pass on the architecture of the champion, where no search is needed.

    Args:
        run_key: Key of the tracked run, from prepare_data.
        dataset: The new data, from prepare_data; only its configuration is read.
        review: From review.

    Returns:
        controller: An empty folder.
        search_result: The search that found the champion, as JSON.
        weights: An empty folder.
        metrics: Validation accuracy of the architecture in that search (fraction).
    """
    from components.steps import reuse as step

    inputs = _paths(dataset=dataset, review=review)
    outputs = _paths(controller=controller, search_result=search_result, weights=weights)
    _log(metrics, step.run(run_key=run_key, **inputs, **outputs))


def pretrain_controller(
    run_key: str,
    dataset: Input[Dataset],
    controller: Output[Model],
    metrics: Output[Metrics],
) -> None:
    """Train what the method learns before any child is trained (NASES: encoder and decoder).

    Args:
        run_key: Key of the tracked run, from prepare_data.
        dataset: The data, from prepare_data.

    Returns:
        controller: Folder from which the search starts.
        metrics: The method's own figures, such as held-out reconstruction accuracy (fractions).
    """
    from components.steps import pretrain_controller as step

    _log(metrics, step.run(run_key=run_key, **_paths(dataset=dataset, controller=controller)))


def search(
    run_key: str,
    dataset: Input[Dataset],
    controller: Input[Model],
    workers_here: int,
    search_result: Output[Artifact],
    weights: Output[Model],
    metrics: Output[Metrics],
) -> None:
    """Search within the budget, and run random search at equal cost as a control.

    Args:
        run_key: Key of the tracked run, from prepare_data.
        dataset: The data, from prepare_data.
        controller: From pretrain_controller.
        workers_here: Processes that train children in this task; more may work in other tasks.

    Returns:
        search_result: Genotype, all children, control and verdict, as JSON.
        weights: Initial weights of the final training; empty where it starts from scratch.
        metrics: Validation accuracy of the best child (fraction) and number of children.
    """
    from components.steps import search as step

    inputs = _paths(dataset=dataset, controller=controller)
    outputs = _paths(search_result=search_result, weights=weights)
    _log(metrics, step.run(run_key=run_key, workers_here=workers_here, **inputs, **outputs))


def search_worker(
    run_key: str,
    dataset: Input[Dataset],
    controller: Input[Model],
    place: int,
    workers_here: int,
) -> None:
    """Train children of the study of the search task, until the budget is spent.

    Args:
        run_key: Key of the tracked run, from prepare_data; names the study.
        dataset: The data, from prepare_data.
        controller: From pretrain_controller.
        place: Number of this pod of workers, from 1.
        workers_here: Processes that train children in this pod.
    """
    from components.steps import search_worker as step

    inputs = _paths(dataset=dataset, controller=controller)
    step.run(run_key=run_key, place=place, workers_here=workers_here, **inputs)


def train_final(
    run_key: str,
    dataset: Input[Dataset],
    search_result: Input[Artifact],
    weights: Input[Model],
    model: Output[Model],
    classes: Output[ClassificationMetrics],
    metrics: Output[Metrics],
) -> None:
    """Train the found architecture and evaluate it once on the test split.

    Args:
        run_key: Key of the tracked run, from prepare_data.
        dataset: The data, from prepare_data.
        search_result: The found architecture, from search.
        weights: Initial weights, from search; empty where the training starts from scratch.

    Returns:
        model: Folder with the weights and `model.json`.
        classes: Confusion matrix (up to 50 classes) and ROC curve on the test split.
        metrics: Accuracies (fractions), parameters, multiply-adds of one image.
    """
    from components.kfp_figures import log_classes
    from components.steps import train_final as step

    paths = _paths(dataset=dataset, search_result=search_result, weights=weights, model=model)
    values = step.run(run_key=run_key, **paths)
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
    """Measure the latency of the trained network on this node.

    Args:
        run_key: Key of the tracked run, from prepare_data.
        dataset: The data, from prepare_data.
        model: The trained network, from train_final.

    Returns:
        latency: Percentiles in milliseconds with device, batch size and protocol, as JSON.
        metrics: Median and 95th percentile in milliseconds.
    """
    from components.steps import profile_latency as step

    paths = _paths(dataset=dataset, model=model, latency=latency)
    _log(metrics, step.run(run_key=run_key, **paths))


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
    """Register the model, make it champion or challenger, and write result and report.

    Args:
        run_key: Key of the tracked run, from prepare_data.
        dataset: The data, from prepare_data; the champion is compared on its test split.
        controller: From pretrain_controller; only its cost is read.
        search_result: From search.
        model: From train_final.
        latency: From profile_latency.

    Returns:
        result: The summary of the run, `result.json`.
        report: One self-contained HTML page.
        metrics: Test accuracy (fraction), latency (milliseconds), size of the promoted model.
    """
    from components.steps import promote as step
    from components.steps.run_results import Inputs

    found = _paths(controller=controller, search_result=search_result)
    inputs = Inputs(**_paths(dataset=dataset, model=model, latency=latency), **found)
    outputs = _paths(result=result, report=report)
    _log(metrics, step.run(run_key=run_key, inputs=inputs, **outputs))


def close_run(config: str, overrides: str, status: PipelineTaskFinalStatus) -> None:
    """Close what an ended run left open: MLflow runs, trials and unsent events.

    Args:
        config: The whole configuration as JSON or YAML.
        overrides: Settings that override it.
        status: How the pipeline ended; Kubeflow fills it in.
    """
    from components.steps import close_run as step

    message = status.error_message or ""
    step.run(config=config, overrides=overrides, status=status.state, message=message)


def _paths(**artifacts: Artifact) -> dict[str, Path]:
    """Return the paths of artifacts by the names of a step's parameters."""
    return {name: Path(artifact.path) for name, artifact in artifacts.items()}


def _log(metrics: Metrics, values: Mapping[str, float]) -> None:
    for name, value in values.items():
        metrics.log_metric(name, value)
