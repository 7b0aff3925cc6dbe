"""What is wrong with a registry after a run, however the run has ended."""

from collections.abc import Mapping
from typing import Any

import mlflow
from mlflow import MlflowClient

from components.registry.champion_check import find_fault
from components.registry.lookup import CHAMPION, answer_of, history_of

NEEDED = ("nas.decision", "nas.schema", "nas.data_sha256", "nas.genotype")
"""Tags that each version has when its registration has ended."""


def registry_faults(
    client: MlflowClient, name: str, *, uri: str, experiments: Mapping[str, str]
) -> list[str]:
    """Every fault of a registered model and of the runs around it; empty for a sound registry.

    The alias must point to a version that loads, the history must be in order and end with the
    champion, each version must have its tags, its alias or an earlier one, and its description,
    and each run must have ended.

    Args:
        client: of store and registry.
        name: of the registered model.
        uri: of the store.
        experiments: ids of the experiments of the runs, by name.
    """
    model = answer_of(lambda: client.get_registered_model(name))
    if model is None:
        return ["there is no such model"]
    aliases = {alias: str(version) for alias, version in model.aliases.items()}
    faults = _of_champion(name, uri, aliases)
    history = history_of(model)
    if history != sorted(history, key=int):
        faults.append(f"the history is not in order: {history}")
    if history[-1:] != [aliases.get(CHAMPION, "")]:
        faults.append(f"the champion is {aliases.get(CHAMPION)}, the history ends with {history}")
    for version in client.search_model_versions(f"name='{name}'"):
        faults += _of_version(version)
    for experiment, number in experiments.items():
        faults += [
            f"the run {run.info.run_name} of {experiment} is {run.info.status}"
            for run in client.search_runs([number], max_results=1000)
            if run.info.status not in ("FINISHED", "FAILED", "KILLED")
        ]
    return faults


def _of_champion(name: str, uri: str, aliases: Mapping[str, str]) -> list[str]:
    version = aliases.get(CHAMPION)
    if version is None:
        return ["there is no champion"]
    fault = find_fault(name, uri=uri, task=None)
    if fault is not None:
        return [str(fault)]
    mlflow.pytorch.load_model(f"models:/{name}/{version}")
    return []


def _of_version(version: Any) -> list[str]:
    missing = [tag for tag in NEEDED if tag not in version.tags]
    faults = [f"version {version.version} has no tags {', '.join(missing)}"] if missing else []
    if version.status != "READY":
        faults.append(f"version {version.version} is {version.status}")
    if not version.description:
        faults.append(f"version {version.version} has no description")
    return faults
