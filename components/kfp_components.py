"""The KFP signatures of the steps. Each function imports its step and calls it.

Users read the docstrings in the Kubeflow UI; kfp looks for outputs under "Returns", artifacts
included. `pipelines.definitions.tasks` makes KFP components of these functions, and
`components.execute` calls them in a pod. This module must not use `from __future__ import
annotations`: kfp reads the annotations. It imports little, since every step waits for it.
"""

from pathlib import Path
from typing import Any, NamedTuple

from kfp.dsl import (
    HTML,
    Artifact,
    ClassificationMetrics,
    Dataset,
    Input,
    Markdown,
    Metrics,
    Model,
    Output,
    PipelineTaskFinalStatus,
)


def prepare_data(
    config: str,
    compiled: dict,  # type: ignore[type-arg]  # kfp takes no dict[str, Any]
    job_name: str,
    method: str,
    data: str,
    budget: str,
    workers: str,
    seed: str,
    objective: str,
    image_size: str,
    model: str,
    experiment: str,
    min_gain: str,
    settings: str,
    dataset: Output[Dataset],
) -> None:
    """Resolve the configuration, read, check and split the data.

    Returns:
        dataset: Folder with images, labels, split indices, `dataset.json`, and the resolved
            configuration, `config.json`.
    """
    from components.steps import prepare_data as step
    from components.steps.compiled import Compiled

    values = dict(
        method=method,
        data=data,
        budget=budget,
        workers=workers,
        seed=seed,
        objective=objective,
        image_size=image_size,
        model=model,
        experiment=experiment,
        min_gain=min_gain,
        settings=settings,
    )
    found = step.run(
        config=config,
        compiled=Compiled.of(compiled),
        parameters=values,
        job_name=job_name,
        **_paths(dataset=dataset),
    )
    dataset.metadata.update(found)


def review(
    dataset: Input[Dataset],
    review: Output[Artifact],
) -> NamedTuple("Plan", [("plan", str)]):  # type: ignore[valid-type]
    """Compare new data with the champion's, and decide whether to search an architecture.

    Returns:
        review: The plan and its reason, the drift, and the search that found the champion, as JSON.
        plan: `search` or `reuse`.
    """
    from components.steps import review as step

    reviewed = step.run(**_run(dataset), **_paths(review=review))
    review.metadata.update(reviewed.metrics)
    return NamedTuple("Plan", [("plan", str)])(reviewed.plan)  # type: ignore[operator]


def reuse(
    dataset: Input[Dataset],
    review: Input[Artifact],
    search_result: Output[Artifact],
    weights: Output[Model],
) -> None:
    """Pass on the architecture of the champion, where no search is needed.

    Returns:
        search_result: The search that found the champion, as JSON.
        weights: An empty folder.
    """
    from components.steps import reuse as step

    inputs = _paths(review=review)
    outputs = _paths(search_result=search_result, weights=weights)
    search_result.metadata.update(step.run(**_run(dataset), **inputs, **outputs))


def pretrain_controller(dataset: Input[Dataset], controller: Output[Model]) -> None:
    """Train what the method learns before any child is trained (NASES: encoder and decoder).

    Returns:
        controller: Folder from which the search starts.
    """
    from components.steps import pretrain_controller as step

    controller.metadata.update(step.run(**_run(dataset), **_paths(controller=controller)))


def search(
    dataset: Input[Dataset],
    controller: Input[Model],
    search_result: Output[Artifact],
    weights: Output[Model],
) -> None:
    """Search within the budget, and run random search at equal cost as a control.

    Returns:
        search_result: Genotype, all children, control and verdict, as JSON.
        weights: Initial weights of the final training; empty where it starts from scratch.
    """
    from components.steps import search as step

    inputs = _paths(controller=controller)
    outputs = _paths(search_result=search_result, weights=weights)
    search_result.metadata.update(step.run(**_run(dataset), **inputs, **outputs))


def search_worker(dataset: Input[Dataset], controller: Input[Model], place: int) -> None:
    """Train children of the study of the search task, until the budget is spent."""
    from components.steps import search_worker as step

    step.run(**_run(dataset), **_paths(controller=controller), place=place)


def train_final(
    dataset: Input[Dataset],
    search_result: Input[Artifact],
    weights: Input[Model],
    model: Output[Model],
    class_figures: Output[ClassificationMetrics],
) -> None:
    """Train the found architecture and evaluate it once on the test split.

    Returns:
        model: Folder with the weights and `model.json`.
        class_figures: Confusion matrix (up to 50 classes) and ROC curve on the test split.
    """
    from components.kfp_figures import log_classes
    from components.steps import train_final as step

    paths = _paths(search_result=search_result, weights=weights, model=model)
    model.metadata.update(step.run(**_run(dataset), **paths))
    log_classes(class_figures, Path(model.path))


def profile_latency(
    dataset: Input[Dataset], model: Input[Model], latency: Output[Artifact]
) -> None:
    """Measure the latency of the trained network on this node.

    Returns:
        latency: Percentiles in milliseconds with device, batch size and protocol, as JSON.
    """
    from components.steps import profile_latency as step

    paths = _paths(model=model, latency=latency)
    latency.metadata.update(step.run(**_run(dataset), **paths))


def train_references(
    dataset: Input[Dataset],
    search_result: Input[Artifact],
    model: Input[Model],
    references: Output[Artifact],
) -> None:
    """Train standard networks for as long as search and final training took, and compare them.

    Returns:
        references: Folder with `references.json`: accuracy, latency and size of each network, and
            which one to ship.
    """
    from components.steps import train_references as step

    paths = _paths(search_result=search_result, model=model, references=references)
    references.metadata.update(step.run(**_run(dataset), **paths))


def promote(
    dataset: Input[Dataset],
    search_result: Input[Artifact],
    model: Input[Model],
    latency: Input[Artifact],
    overview: Output[Markdown],
    report: Output[HTML],
    result: Output[Artifact],
    run_metrics: Output[Metrics],
    references: Input[Artifact] = None,  # a retraining has none
) -> None:
    """Register the model, make it champion or challenger, and write result and report.

    Returns:
        overview: What was searched, result, verdict, links to the MLflow run and the model.
        report: One self-contained HTML page.
        result: The summary of the run, `result.json`.
        run_metrics: The numbers by which runs are compared.
    """
    from components.steps import promote as step
    from components.steps.run_results import Inputs

    found = _paths(dataset=dataset, search_result=search_result, model=model, latency=latency)
    if references is not None:
        found |= _paths(references=references)
    outputs = _paths(overview=overview, report=report, result=result)
    key = _run(dataset)["run_key"]
    for name, value in step.run(run_key=key, inputs=Inputs(**found), **outputs).items():
        run_metrics.log_metric(name, value)


def close_run(
    config: str,
    method: str,
    data: str,
    budget: str,
    workers: str,
    seed: str,
    objective: str,
    image_size: str,
    model: str,
    experiment: str,
    min_gain: str,
    settings: str,
    status: PipelineTaskFinalStatus,
) -> None:
    """Close what an ended run left open: MLflow runs, trials and unsent events."""
    from components.steps import close_run as step

    values = dict(
        method=method,
        data=data,
        budget=budget,
        workers=workers,
        seed=seed,
        objective=objective,
        image_size=image_size,
        model=model,
        experiment=experiment,
        min_gain=min_gain,
        settings=settings,
    )
    message = status.error_message or ""
    step.run(config=config, parameters=values, status=status.state, message=message)


def _paths(**artifacts: Artifact) -> dict[str, Any]:
    """Return the paths of artifacts by the names of a step's parameters."""
    return {name: Path(artifact.path) for name, artifact in artifacts.items()}


def _run(dataset: Artifact) -> dict[str, Any]:
    """Return the arguments that steps have in common: the data, and the key of the tracked run."""
    from components.steps.compiled import run_key_of

    return {"dataset": Path(dataset.path), "run_key": run_key_of(Path(dataset.path))}
