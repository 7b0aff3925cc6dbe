"""Upload of compiled pipelines to KFP's Pipelines page: a version for each new text, once.

The name of a version holds the hash of the text, and KFP refuses a second version of that name. So
the same text is uploaded once, also if the answer of an upload is lost, or if two people submit at
the same time.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

from components.config.parameters import NAMES
from components.config.schema import Config
from nascore.errors import InputError
from pipelines.definitions.kinds import Kind
from pipelines.kubeflow.client import Cluster, JsonObject
from pipelines.kubeflow.compiled_text import declared, our_name
from pipelines.kubeflow.errors import ClusterError
from pipelines.kubeflow.pipelines_page import PipelinesPage
from pipelines.kubeflow.run_names import name_of_run
from pipelines.kubeflow.starting import Say, look_for, made_or_found

OPTION = "--pipeline"
INLINE = "--inline"
_DOCS = "docs/kubeflow.md of the project explains parameters, schedules and results."
_HASH_CHARS = 12
_OTHER_WAYS = (
    f"name another pipeline with {OPTION}, or give {INLINE} to send the compiled pipeline with the "
    "run and upload nothing"
)


def pipeline_name(kind: Kind, given: str | None) -> str:
    """Return the name of the pipeline on the Pipelines page."""
    return given or f"nas-{kind}"


def put_on_page(
    cluster: Cluster, file: Path, config: Config, *, kind: Kind, name: str, say: Say
) -> JsonObject:
    """Return a reference to the version with a compiled text; upload it if it is new.

    Args:
        cluster: client of the server.
        file: the compiled pipeline.
        config: the compiled configuration.
        kind: of the pipeline.
        name: of the pipeline on the page.
        say: prints what is uploaded, or searched for after a lost answer.

    Returns:
        `pipeline_id` and `pipeline_version_id`.

    Raises:
        InputError: the server does not allow it, or the pipeline of that name is not ours.
        ClusterError: the server does not answer.
    """
    page = PipelinesPage(cluster)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:_HASH_CHARS]
    version_name = f"nas-{kind}-{digest}"
    try:
        pipeline = page.find(name)
        if pipeline is None:
            pipeline = _once(
                lambda: page.create(name, f"{_purpose(kind)} {_DOCS}"),
                lambda: page.find(name),
                what=f"the pipeline {name!r}",
                say=say,
            )
        pipeline_id = str(pipeline["pipeline_id"])
        version = page.version(pipeline_id, version_name)
        if version is None:
            latest = page.latest(pipeline_id)
            refuse_foreign(latest, kind=kind, name=name)
            _warn_of_schedules(cluster, pipeline_id, latest, say)
            version = _once(
                lambda: page.upload(
                    pipeline_id, file, name=version_name, description=_description(kind, config)
                ),
                lambda: page.version(pipeline_id, version_name),
                what=f"the version {version_name!r}",
                say=say,
            )
            say(f"Version {version_name} of the pipeline {name} has been uploaded.")
    except ClusterError as error:
        if not error.is_refusal:
            raise
        message = f"cannot be uploaded: {error}; or {_OTHER_WAYS}"
        raise InputError.of(OPTION, name, message) from error
    return {"pipeline_id": pipeline_id, "pipeline_version_id": version["pipeline_version_id"]}


def refuse_foreign(latest: JsonObject | None, *, kind: Kind, name: str) -> None:
    """Check that a pipeline on the page is this project's, and of the same kind.

    Raises:
        InputError: it is not; runs and schedules of its latest version would get other parameters.
    """
    if latest is None:
        return
    holds = our_name(latest.get("pipeline_spec") or {})
    if holds != f"nas-{kind}":
        what = f"the pipeline {holds}" if holds else "a pipeline that this project has not compiled"
        message = f"holds {what}, with other parameters; {_OTHER_WAYS}"
        raise InputError.of(OPTION, name, message)


def _once(
    make: Callable[[], JsonObject],
    find: Callable[[], JsonObject | None],
    *,
    what: str,
    say: Say,
) -> JsonObject:
    """Make an object with a name that only one may have; take it if it was made meanwhile."""
    try:
        return made_or_found(make, find, what=what, where="", say=say)
    except ClusterError as error:
        # KFP lists an object only some milliseconds after its name is taken.
        found = look_for(find, error) if error.is_taken else None
        if found is None:
            raise
        return found


def _warn_of_schedules(
    cluster: Cluster, pipeline_id: str, latest: JsonObject | None, say: Say
) -> None:
    """Name the schedules of the latest version whose parameters a new version does not have.

    KFP would refuse each of their runs.
    """
    before = set(declared((latest or {}).get("pipeline_spec") or {}))
    if before <= set(NAMES):
        return
    names = [
        str(one.get("display_name"))
        for one in cluster.schedules()
        if (one.get("pipeline_version_reference") or {}) == {"pipeline_id": pipeline_id}
        and not set((one.get("runtime_config") or {}).get("parameters") or {}) <= set(NAMES)
    ]
    if names:
        say(
            f"warning: the schedules {', '.join(names)} run the latest version with parameters "
            "that the new version does not have, so that their runs will fail; delete and create "
            "them again"
        )


def _purpose(kind: Kind) -> str:
    from pipelines.definitions import retrain, search

    return search.DESCRIPTION if kind == "search" else retrain.DESCRIPTION


def _description(kind: Kind, config: Config) -> str:
    workers = config.search.workers
    return (
        f"Without parameters: {name_of_run(kind, config)}, seed {config.seed}, "
        f"{workers} {'worker' if workers == 1 else 'workers'}. {_DOCS}"
    )
