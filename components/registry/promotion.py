"""Decides whether a new model becomes champion: gates, and the comparison with the champion."""

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import get_model_info
from numpy.typing import NDArray

from components.config.settings import PromoteConfig
from components.registry import model_registry
from components.registry.aliases import CHALLENGER, CHAMPION, DECISION, set_champion
from components.registry.model_registry import ModelVersion
from components.registry.test_sets import IncomparableModels, TestSet
from components.tracking.mlflow_errors import kind_of
from nascore.evaluation.paired_bootstrap import PairedComparison
from nascore.redaction import redact
from nascore.service_errors import ErrorKind

_ROUNDING = 1e-9  # 0.3 - 0.2 is a gain of 0.1


class _UnusableModelError(Exception):
    """The champion exists, and cannot be loaded."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A registered version and what was measured of it.

    Attributes:
        scores: on the test set.
        latency_ms: median of the profile.
    """

    registered: ModelVersion
    scores: NDArray[Any]
    num_params: int
    latency_ms: float


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition; all must hold."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Decision:
    """The alias of a new version, and why it has it.

    Attributes:
        alias: the alias that points to it now.
        reason: for the user.
        champion_accuracy: accuracy of the old champion on the same test set; None without one.
        champion_version: version of the old champion; None without one.
    """

    alias: str
    reason: str
    champion_accuracy: float | None = None
    champion_version: str | None = None
    gates: tuple[Gate, ...] = ()
    comparison: PairedComparison | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def promote(
    candidate: Candidate,
    *,
    uri: str,
    test_set: TestSet,
    config: PromoteConfig,
    rng: np.random.Generator,
) -> Decision:
    """Make a version champion when all gates hold, else challenger.

    The champion is evaluated here on the same test set, so that two models trained at different
    times are compared on equal terms. Without a champion only the limits of size and latency count.

    Args:
        candidate: the registered version with its scores.
        uri: MLflow store.
        test_set: the one that the scores of the candidate are from.
        config: the gates.
        rng: generator of the bootstrap.
    """
    model_registry.use(uri)
    client = MlflowClient(tracking_uri=uri)
    new = candidate.registered
    decision = _decide(client, candidate, test_set, config, rng)
    if decision.alias == CHAMPION:
        set_champion(client, new.name, new.version)
    else:
        client.set_registered_model_alias(new.name, decision.alias, new.version)
    client.set_model_version_tag(new.name, new.version, DECISION, decision.reason)
    return decision


# --- the decision ---------------------------------------------------------------------------


def _decide(
    client: MlflowClient,
    candidate: Candidate,
    test_set: TestSet,
    config: PromoteConfig,
    rng: np.random.Generator,
) -> Decision:
    new = candidate.registered
    version = client.get_registered_model(new.name).aliases.get(CHAMPION)
    limits = _limits(candidate, config)
    if version is None:
        return _verdict("there was no champion", limits)
    if str(version) == new.version:
        return Decision(CHAMPION, "it is the champion already")
    champion = model_registry.version_of(new.name, version)
    fault = _why_incomparable(champion, new)
    if fault is None:
        try:
            before = test_set.scores(_load(champion, test_set))
        except _UnusableModelError as error:
            fault = f"cannot be loaded: {error}"
        except IncomparableModels as error:
            fault = str(error)
    if fault is not None:
        return Decision(
            CHALLENGER,
            f"the champion (version {version}) {fault}; set registry.model to another name, "
            "or move the alias by hand",
            champion_version=str(version),
        )
    scores = candidate.scores
    paired = test_set.compare(scores, before, rng=rng, confidence=config.confidence or 0.95)
    reason = (
        f"test {test_set.figure} {paired.new_score:.4f} against {paired.old_score:.4f} of the "
        f"champion (version {version}) on the same {test_set.unit}"
    )
    gates = [*_gains(paired, config, test_set), *_drops(test_set, scores, before, config)]
    return _verdict(reason, [*gates, *limits], paired=paired, version=str(version))


def _verdict(
    reason: str,
    gates: Sequence[Gate],
    *,
    paired: PairedComparison | None = None,
    version: str | None = None,
) -> Decision:
    failed = [gate for gate in gates if not gate.passed]
    details = "; ".join(gate.detail for gate in failed or gates)
    return Decision(
        CHALLENGER if failed else CHAMPION,
        f"{reason}: {details}" if details else reason,
        champion_accuracy=None if paired is None else paired.old_accuracy,
        champion_version=version,
        gates=tuple(gates),
        comparison=paired,
    )


def _drops(
    test_set: TestSet, scores: NDArray[Any], before: NDArray[Any], config: PromoteConfig
) -> list[Gate]:
    """Return the gate of the class whose recall has dropped most."""
    limit = config.max_class_drop
    if limit is None:
        return []
    new, old = test_set.recalls(scores), test_set.recalls(before)
    if new is None or old is None:
        return []  # `components.config.schema` refuses the setting
    name = max(old, key=lambda one: old[one] - new[one])
    return [
        Gate(
            "classes",
            old[name] - new[name] <= limit + _ROUNDING,
            f"the recall of class {name} is {new[name]:.4f} against {old[name]:.4f} of the "
            f"champion, where no class may lose more than {limit:g}",
        )
    ]


def _gains(paired: PairedComparison, config: PromoteConfig, test_set: TestSet) -> list[Gate]:
    gain = paired.difference
    needed = f"{config.min_gain:g} is needed" if config.min_gain > 0 else "any gain is enough"
    gates = [
        Gate(
            "gain",
            gain > 0 and gain >= config.min_gain - _ROUNDING,
            f"a gain of {gain:.4f} in {test_set.figure}, where {needed}",
        )
    ]
    if config.confidence is not None:
        gates.append(
            Gate(
                "certainty",
                paired.lower > 0,
                f"the {config.confidence:.0%} interval of the gain is {paired.lower:+.4f} to "
                f"{paired.upper:+.4f} on {paired.num_images} {test_set.unit}, where all of it must "
                "be above 0",
            )
        )
    return gates


def _limits(candidate: Candidate, config: PromoteConfig) -> list[Gate]:
    gates = []
    for name, value, limit, unit in (
        ("size", candidate.num_params, config.max_params, "parameters"),
        ("latency", candidate.latency_ms, config.max_latency_ms, "ms at the median"),
    ):
        if limit is not None:
            detail = f"{value:,.6g} {unit}, where {limit:,.6g} are allowed"
            gates.append(Gate(name, value <= limit, detail))
    return gates


def _load(champion: ModelVersion, test_set: TestSet) -> Any:
    """Load the model of the champion.

    Raises:
        _UnusableModelError: it is pickled, damaged or gone.
        IncomparableModels: see `TestSet.load`.
        MlflowException: its files cannot be fetched now, which says nothing about the model.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = mlflow.artifacts.download_artifacts(artifact_uri=champion.uri, dst_path=folder)
        except MlflowException as error:
            if kind_of(error) is ErrorKind.REQUEST:
                raise _UnusableModelError(_first_line(error)) from error
            raise
        try:
            return test_set.load(path)
        except MlflowException as error:
            raise _UnusableModelError(_first_line(error)) from error


def _first_line(error: MlflowException) -> str:
    return redact(str(error)).splitlines()[0][:200]


def _why_incomparable(champion: ModelVersion, new: ModelVersion) -> str | None:
    """Return why two models cannot be compared; None when input and output have equal shapes."""
    theirs, ours = get_model_info(champion.uri), get_model_info(new.uri)
    if "pytorch" not in theirs.flavors:
        return "is not a PyTorch model"
    for what, is_output in (("reads images", False), ("answers with logits", True)):
        shapes = [_shapes(info.signature, is_output) for info in (theirs, ours)]
        if shapes[0] != shapes[1]:
            return f"{what} of shape {shapes[0]}, the new model of shape {shapes[1]}"
    return None


def _shapes(signature: Any, is_output: bool) -> Any:
    """Return the shape of the logits or probabilities, or of the inputs, by name if several."""
    schema = None if signature is None else signature.outputs if is_output else signature.inputs
    if schema is None or not schema.is_tensor_spec():
        return "unknown"
    named = {one.name: tuple(one.shape) for one in schema.inputs}
    if not is_output and len(named) > 1:
        return named
    names = [name for name in ("logits", "probabilities") if name in named]
    return named[names[0]] if names else tuple(schema.inputs[0].shape)
