"""Decides whether a new model becomes champion: gates, and the comparison with the champion."""

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import get_model_info
from numpy.typing import NDArray

from components.config.settings import PromoteConfig
from components.registry import champion_check, model_registry
from components.registry.aliases import CHALLENGER, DECISION, set_champion
from components.registry.champion_check import Fault, Policy, Task
from components.registry.lookup import CHAMPION
from components.registry.model_registry import ModelVersion
from components.registry.test_sets import IncomparableModels, TestSet, UnusableModel
from components.tracking.client import open_client
from components.tracking.registered_models import is_missing
from nascore.errors import visible
from nascore.evaluation.paired_bootstrap import PairedComparison

_ROUNDING = 1e-9  # 0.3 - 0.2 is a gain of 0.1


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
        unusable_champion: why the old champion could not be loaded or compared; None if it could.
    """

    alias: str
    reason: str
    champion_accuracy: float | None = None
    champion_version: str | None = None
    gates: tuple[Gate, ...] = ()
    comparison: PairedComparison | None = None
    unusable_champion: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def promote(
    candidate: Candidate,
    *,
    uri: str,
    test_set: TestSet,
    config: PromoteConfig,
    rng: np.random.Generator,
    unusable_champion: Policy | None = None,
    retrains: bool = False,
) -> Decision:
    """Make a version champion when all gates hold, else challenger.

    The champion is evaluated here on the same test set, so that two models trained at different
    times are compared on equal terms. Without a champion, or in place of one that cannot be used,
    only the limits of size and latency count.

    Args:
        candidate: the registered version with its scores.
        uri: MLflow store.
        test_set: the one that the scores of the candidate are from.
        config: the gates.
        rng: generator of the bootstrap.
        unusable_champion: setting `registry.unusable_champion`.
        retrains: whether this is the retraining pipeline.

    Raises:
        MlflowException: the registry does not answer; nothing is decided.
    """
    model_registry.use(uri)
    client = open_client(uri)
    new = candidate.registered
    found = _find_fault_or_compare(client, candidate, uri, test_set, config, rng)
    if isinstance(found, Fault):
        is_replaced = champion_check.is_replaced(found, unusable_champion, retrains=retrains)
        decision = _without(found, candidate, config, is_replaced=is_replaced)
    else:
        decision = found
    if decision.alias == CHAMPION:
        set_champion(client, new.name, new.version)
    else:
        client.set_registered_model_alias(new.name, decision.alias, new.version)
    client.set_model_version_tag(new.name, new.version, DECISION, decision.reason)
    return decision


# --- the decision ---------------------------------------------------------------------------


def _find_fault_or_compare(
    client: MlflowClient,
    candidate: Candidate,
    uri: str,
    test_set: TestSet,
    config: PromoteConfig,
    rng: np.random.Generator,
) -> Decision | Fault:
    fault = _find_fault(candidate.registered, uri)
    if fault is not None:
        return fault
    try:
        return _compare(client, candidate, test_set, config, rng)
    except MlflowException as error:
        if not is_missing(error):
            raise
    # The champion was deleted after the check.
    fault = _find_fault(candidate.registered, uri)
    return fault or _compare(client, candidate, test_set, config, rng)


def _find_fault(new: ModelVersion, uri: str) -> Fault | None:
    """Return why the champion cannot be compared with a new version, as far as its files say."""
    client = open_client(uri)
    tags = client.get_model_version(new.name, new.version).tags
    task = Task.of_model(get_model_info(new.uri), tags)
    return champion_check.find_fault(new.name, uri=uri, task=task)


def _compare(
    client: MlflowClient,
    candidate: Candidate,
    test_set: TestSet,
    config: PromoteConfig,
    rng: np.random.Generator,
) -> Decision | Fault:
    """Return the decision by comparison, or why the champion cannot be evaluated."""
    new = candidate.registered
    version = client.get_registered_model(new.name).aliases.get(CHAMPION)
    limits = _limits(candidate, config)
    if version is None:
        return _verdict("there was no champion", limits)
    version = str(version)
    if version == new.version:
        return Decision(CHAMPION, "it is the champion already")
    champion = model_registry.version_of(new.name, version)
    try:
        before = test_set.scores(_load(champion, test_set))
    except IncomparableModels as error:
        return Fault(version, "task", str(error))
    except UnusableModel as error:
        return Fault(version, "format", f"cannot be loaded: {error}")
    scores = candidate.scores
    paired = test_set.compare(scores, before, rng=rng, confidence=config.confidence or 0.95)
    reason = (
        f"test {test_set.figure} {paired.new_score:.4f} against {paired.old_score:.4f} of the "
        f"champion (version {version}) on the same {test_set.unit}"
    )
    gates = [*_gains(paired, config, test_set), *_drops(test_set, scores, before, config)]
    return _verdict(reason, [*gates, *limits], paired=paired, version=version)


def _without(
    fault: Fault, candidate: Candidate, config: PromoteConfig, *, is_replaced: bool
) -> Decision:
    """Return the decision about a new model whose champion cannot be used."""
    if is_replaced:
        decision = _verdict(str(fault), _limits(candidate, config), version=fault.version)
    else:
        advice = champion_check.remedy(fault, candidate.registered.name)
        decision = Decision(CHALLENGER, f"{fault}; {advice}", champion_version=fault.version)
    return replace(decision, unusable_champion=str(fault))


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
    recalls = f"{new[name]:.4f} against {old[name]:.4f}"
    return [
        Gate(
            "classes",
            old[name] - new[name] <= limit + _ROUNDING,
            f"the recall of class {visible(name)} is {recalls} of the champion, where no class may "
            f"lose more than {limit:g}",
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
        UnusableModel, IncomparableModels: see `TestSet.load`.
        MlflowException: its files cannot be fetched now, which says nothing about the model.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = mlflow.artifacts.download_artifacts(artifact_uri=champion.uri, dst_path=folder)
        return test_set.load(path)
