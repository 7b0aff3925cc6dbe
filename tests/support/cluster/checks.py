"""What must hold after a run, whatever befell it: nothing twice, nothing lost, nothing open."""

from collections import Counter
from typing import Any

from cluster.runs import Run
from cluster.surroundings import Surroundings
from components.ending import End

SEARCH = (
    *("prepare_data", "pretrain_controller", "search", "train_final", "profile_latency"),
    "train_references",
    "promote",
)
REUSE = ("prepare_data", "review", "reuse", "train_final", "profile_latency", "promote")


def key_of(run: Run) -> str:
    """The key of a run's MLflow runs."""
    return run.id.replace("-", "")


def tracked_statuses(surroundings: Surroundings, name: str) -> dict[str, str]:
    """Status of each MLflow run by its key.

    Raises:
        AssertionError: two runs have one key.
    """
    found = [(one.data.tags.get("nas.run_key"), one) for one in surroundings.tracked(name)]
    twice = [key for key, count in Counter(key for key, _ in found).items() if count > 1]
    assert not twice, f"tracked twice: {twice}"
    return {str(key): one.info.status for key, one in found}


def check_tracked(
    surroundings: Surroundings, name: str, run: Run, steps: tuple[str, ...] = SEARCH
) -> None:
    """All MLflow runs of a pipeline run that has succeeded are there, once, and as they ended."""
    statuses = tracked_statuses(surroundings, name)
    key = key_of(run)
    wanted = {key, *(f"{key}.{step}" for step in steps)}
    own = {one: status for one, status in statuses.items() if one.partition(".")[0] == key}
    assert wanted <= own.keys(), f"lost: {sorted(wanted - own.keys())}"
    # A worker that gives up fails nothing but its own run in MLflow, which says why.
    gave_up = {
        f"{key}.{pod.task.replace('-', '_')}"
        for pod in run.pods
        if pod.task.startswith("search-worker") and End.parse_last(pod.text()) is not None
    }
    expected = {one: "FAILED" if one in gave_up else "FINISHED" for one in own}
    bad = {one: status for one, status in own.items() if status != expected[one]}
    assert not bad, f"not as they ended: {bad}"


def nothing_is_running(surroundings: Surroundings, name: str) -> None:
    statuses = tracked_statuses(surroundings, name)
    left = [key for key, status in statuses.items() if status == "RUNNING"]
    assert not left, f"still RUNNING: {left}"


def check_study(url: str, run: Run, *, children: int) -> None:
    """Each arm has its children once, and no trial is open."""
    trials = Surroundings.trials(url)
    open_ = [one for one in trials if one[2] in ("RUNNING", "WAITING")]
    assert not open_, f"open trials: {open_}"
    complete = Counter(study for study, _, state in trials if state == "COMPLETE")
    key = key_of(run)
    assert complete == {f"{key}/method": children, f"{key}/control": children}, trials


def check_registry(surroundings: Surroundings, name: str, run: Run) -> Any:
    """One version for the run, complete, and champion; returns it."""
    versions = [
        one
        for one in surroundings.models(name)
        if one.tags.get("nas.kfp_run_id") == run.id or one.tags.get("nas.run_key") == key_of(run)
    ]
    assert len(versions) == 1, f"{len(versions)} versions of one run"
    assert versions[0].status == "READY"
    return versions[0]


def check_success(
    surroundings: Surroundings, name: str, url: str, run: Run, *, children: int | None = 2
) -> None:
    """A search that has succeeded: MLflow, registry and study are whole.

    Args:
        children: of each arm; None where the method keeps none in a study.
    """
    assert run.state == "SUCCEEDED", run.tell()
    check_tracked(surroundings, name, run)
    nothing_is_running(surroundings, name)
    version = check_registry(surroundings, name, run)
    assert surroundings.champion(name) == version.version
    if children is not None:
        check_study(url, run, children=children)
