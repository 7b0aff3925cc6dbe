"""Registers the trained network of a run, and decides whether it becomes champion."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from mlflow.exceptions import MlflowException
from torch import Tensor

from components.config.schema import Config
from components.registry import model_registry
from components.registry.lookup import CHAMPION
from components.registry.model_kinds import ClassifierAdapter, FewShotAdapter, ModelAdapter
from components.registry.model_metadata import metadata_of
from components.registry.model_registry import ModelVersion
from components.registry.promotion import Candidate, Decision, promote
from components.registry.task_schema import model_name, schema_of
from components.registry.test_sets import FewShotTestSet, ImageTestSet, TestSet
from components.steps.context_builder import examples_of
from components.steps.run_results import RunResults
from components.steps.runtime import Step
from components.tracking import wait_for_run
from components.tracking.datasets import data_name
from components.tracking.mlflow_errors import brief, call_mlflow
from components.tracking.registered_models import is_missing
from nascore.data.batches import Splits
from nascore.data.prepared import DatasetInfo
from nascore.errors import ResourceUnavailable, ServiceUnavailable
from nascore.redaction import redact
from nascore.seeding import Seeds
from nascore.training.final_model import DeployedModel

_STORE_TIMEOUT_S = 120.0
_BATCH_SIZE = 256
_EXAMPLE_IMAGES = 2  # one image would be exported as a fixed batch size
_NUM_TASKS = 200  # the mean over them has a standard error of about 0.01, and paired ones less

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Promotion:
    """A registered version and what was decided about it.

    Attributes:
        run_id: MLflow id of the pipeline's run.
        tags: lineage of the version.
    """

    registered: ModelVersion
    decision: Decision
    run_id: str
    tags: Mapping[str, str]


def register_and_decide(step: Step, results: RunResults, tags: Mapping[str, str]) -> Promotion:
    """Register the network of a run under the pipeline's MLflow run, and promote it if it wins.

    Args:
        step: the running step.
        results: of the earlier steps.
        tags: lineage of the version.

    Raises:
        ServiceUnavailable: the store does not answer in time; no model can be registered without.
    """
    with _store_deadline(step.config):
        # The process that sends the events to the store makes the run.
        run_id = wait_for_run(step.tracker.spool, step.run_key, timeout_s=_STORE_TIMEOUT_S)
    with step.part("registration"):
        return call_store(step, lambda: register(results, run_id=run_id, tags=tags))


def register(results: RunResults, *, run_id: str, tags: Mapping[str, str]) -> Promotion:
    """Register the network and decide, without retries; see `register_and_decide`.

    Args:
        results: of the earlier steps.
        run_id: MLflow id of the pipeline's run.
        tags: lineage of the version.
    """
    config, final = results.config, results.final
    network = DeployedModel(final.network, results.splits.info).eval()
    adapter, test_set = adapter_and_test_set(network, results.splits, config)
    registered = model_registry.register(
        network,
        adapter,
        uri=config.tracking.uri,
        run_id=run_id,
        model_name=model_name(config),
        tags={**tags, "nas.test_accuracy": f"{final.test_accuracy:.6f}"},
        metadata=metadata_of(results.splits.info),
        purpose=_purpose(results.splits.info),
    )
    candidate = Candidate(
        registered, test_set.scores(network), final.num_params, results.measured.p50_ms
    )
    decision = promote(
        candidate,
        uri=config.tracking.uri,
        test_set=test_set,
        config=config.promote,
        rng=Seeds(config.seed).numpy("promote"),
        unusable_champion=config.registry.unusable_champion,
        retrains=results.retrains,
    )
    return Promotion(registered, decision, run_id, tags)


def describe_version(step: Step, promotion: Promotion, text: str) -> None:
    """Set the description of a version, and whether it has passed: the end of its registration.

    Raises:
        ResourceUnavailable: the version was deleted meanwhile, or the registry refuses it.
        ServiceUnavailable: the store does not answer in time.
    """
    uri, registered = step.config.tracking.uri, promotion.registered

    def call() -> None:
        model_registry.set_description(registered, text, uri=uri)
        passed = promotion.decision.alias == CHAMPION
        model_registry.validate(registered, passed=passed, uri=uri)

    call_store(step, call)


def _purpose(info: DatasetInfo) -> str:
    """Return the description of a registered model, which all its versions have in common."""
    schema, name = schema_of(info), redact(data_name(info.source))
    shape = f"{info.channels} x {info.size} x {info.size}"
    return (
        f"Models for {schema['task']} of images ({shape}) of the data set {name}, "
        f"{len(info.classes)} classes. The alias `{CHAMPION}` is the version to use."
    )


def adapter_and_test_set(
    network: DeployedModel, splits: Splits, config: Config
) -> tuple[ModelAdapter, TestSet]:
    """Return how a network is logged and loaded, and the test set on which models are compared."""
    info = splits.info
    tasks = network.kind.tasks(examples_of(splits, config), "test", _NUM_TASKS)
    if tasks:
        example = {name: tasks[0][name] for name in ("support_x", "support_y", "query_x")}
        learned = [*info.names_of("train"), *info.names_of("valid")]
        adapter = FewShotAdapter(example, learned=learned)
        return adapter, FewShotTestSet(tasks, info.names_of("test"))

    def images() -> Iterator[Tensor]:
        return (x_BCHW.float() for x_BCHW in splits.test.pixel_batches(_BATCH_SIZE))

    test_set = ImageTestSet(
        images, splits.test.labels, classes=info.classes, objective=config.search.objective
    )
    return ClassifierAdapter(next(images())[:_EXAMPLE_IMAGES].numpy()), test_set


def call_store(step: Step, call: Callable[[], Answer]) -> Answer:
    """Return the answer of the tracking store, and retry while it is unreachable.

    Raises:
        ResourceUnavailable: it refuses the call.
        ServiceUnavailable: it does not answer in time.
    """
    with _store_deadline(step.config):
        try:
            return call_mlflow(
                call,
                timeout_s=_STORE_TIMEOUT_S,
                on_outage=lambda text: step.progress("note", text=text),
            )
        except MlflowException as error:  # the store refuses this call
            raise _refusal(step.config, error) from error


def _refusal(config: Config, error: MlflowException) -> ResourceUnavailable:
    """Return the error about a call that the registry refuses, with what to do."""
    if is_missing(error):
        message = (
            "something of this model was deleted while the run registered it; the trained model is "
            f"kept: run the step again, which registers it once more ({brief(error)})"
        )
    else:
        message = (
            f"the registry refuses what the run writes ({brief(error)}); the trained model is "
            "kept: correct the registry or name another model, and run the step again"
        )
    return ResourceUnavailable.of("registry.model", model_name(config), message)


@contextlib.contextmanager
def _store_deadline(config: Config) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise ServiceUnavailable(
            "tracking server",
            f"{error} at {redact(config.tracking.uri)}; the trained model is kept: bring the "
            "store back and run the step again",
        ) from error
