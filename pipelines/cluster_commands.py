"""`nas submit`, `nas status` and `nas cancel`: runs on Kubeflow."""

import hashlib
import json
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nascore.errors import InputError, Problem, collecting
from pipelines.cluster_options import Find, as_json, on_cluster
from pipelines.events import KINDS
from pipelines.options import FAILED, INTERRUPTED, configuration

if TYPE_CHECKING:
    from components.config import Config
    from pipelines.cluster import Cluster, Thing

    Compiler = Callable[..., None]


def _search() -> "Compiler":
    from pipelines.search import compile_search

    return compile_search


def _retrain() -> "Compiler":
    from pipelines.retrain import compile_retrain

    return compile_retrain


COMPILERS: dict[str, Callable[[], "Compiler"]] = {"search": _search, "retrain": _retrain}
"""What writes each kind of pipeline; a function, since kfp takes a moment to load."""
assert set(COMPILERS) == set(KINDS)

kind_option = click.option(
    "--kind", type=click.Choice(KINDS), default="search", show_default=True, help="Which pipeline."
)
image_option = click.option(
    "--image", help="Image of all steps, by digest or by a tag that never moves."
)
experiment_option = click.option(
    "--experiment", metavar="NAME", help="Made when it is new [tracking.experiment]."
)
poll_option = click.option(
    "--poll",
    "poll_s",
    type=click.FloatRange(min=0.1),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="With --wait: between two looks.",
)
account_option = click.option(
    "--service-account", metavar="NAME", help="Kubernetes account of the pods [KFP's]."
)


def prepare(
    config: Path | None,
    preset: str | None,
    settings: tuple[str, ...],
    image: str | None,
    problems: list[Problem],
) -> "Config | None":
    """The checked configuration, or None with what is wrong in `problems`."""
    from components.image import IMAGE
    from components.tracking.stores import sqlite_path
    from pipelines.compiling import check_cluster, check_image
    from pipelines.config import resolve

    resolved = None
    with collecting(problems):
        check_image(image or IMAGE)
    with collecting(problems):
        resolved = resolve(config, preset, settings)
        check_cluster(resolved)
        if sqlite_path(resolved.tracking.uri) is not None:
            click.echo(
                "warning: tracking.uri is a SQLite file, which is gone with its pod; give the "
                "address of an MLflow server",
                err=True,
            )
    return resolved


def source(
    cluster: "Cluster", config: "Config", *, kind: str, image: str | None, pipeline: str | None
) -> "Thing":
    """The part of a request that says what runs: the compiled pipeline, or a version made of it."""
    from components.image import IMAGE
    from pipelines.cluster_runs import spec_of, without_caching

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pipeline.yaml"
        COMPILERS[kind]()(config, file, image=image or IMAGE)
        without_caching(file)
        if pipeline is None:
            return {"pipeline_spec": spec_of(file)}
        digest = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
        version = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{digest}"
        return {"pipeline_version_reference": cluster.upload(pipeline, version, file)}


@configuration
@kind_option
@image_option
@experiment_option
@click.option("--run-name", metavar="NAME", help="Name of the run [kind, method and time].")
@click.option("--pipeline", metavar="NAME", help="Also upload it as a new version of this one.")
@account_option
@click.option("--wait", "is_waiting", is_flag=True, help="Follow the run to its end.")
@poll_option
@as_json
@on_cluster
def submit(
    find: Find,
    config: Path | None,
    preset: str | None,
    settings: tuple[str, ...],
    kind: str,
    image: str | None,
    experiment: str | None,
    run_name: str | None,
    pipeline: str | None,
    service_account: str | None,
    is_waiting: bool,
    poll_s: float,
    as_json: bool,
) -> None:
    """Compile the pipeline and run it on Kubeflow.

    With --wait the exit status is 0 when the run succeeds and 1 when it fails. Nothing is cached.
    """
    from components.config import dumps

    problems: list[Problem] = []
    connection = None
    with collecting(problems):
        connection = find()
    resolved = prepare(config, preset, settings, image, problems)
    if problems or resolved is None or connection is None:
        raise InputError(problems)
    from pipelines.cluster import Cluster

    cluster = Cluster(connection)
    body: dict[str, Any] = {
        "display_name": run_name or f"{kind} {resolved.method} {datetime.now(UTC):%Y-%m-%d %H:%M}",
        "experiment_id": cluster.experiment(experiment or resolved.tracking.experiment),
        "runtime_config": {"parameters": {"config": dumps(resolved), "overrides": ""}},
        **source(cluster, resolved, kind=kind, image=image, pipeline=pipeline),
    }
    if service_account is not None:
        body["service_account"] = service_account
    run = cluster.create_run(body)
    _say_started(cluster, run, as_json=as_json)
    reference = body.get("pipeline_version_reference", {})
    _follow(cluster, run, wait_s=poll_s if is_waiting else None, as_json=as_json, also=reference)


@click.argument("run_id", metavar="RUN")
@click.option("--wait", "is_waiting", is_flag=True, help="Follow the run to its end.")
@poll_option
@as_json
@on_cluster
def status(find: Find, run_id: str, is_waiting: bool, poll_s: float, as_json: bool) -> None:
    """Say how far a run on Kubeflow is; RUN is its id.

    With --wait the exit status is 0 when the run succeeds and 1 when it fails.
    """
    from pipelines.cluster import Cluster

    cluster = Cluster(find())
    run = cluster.run(run_id)
    if not as_json:
        _say_run(cluster, run)
    _follow(cluster, run, wait_s=poll_s if is_waiting else None, as_json=as_json)


@click.argument("run_id", metavar="RUN")
@as_json
@on_cluster
def cancel(find: Find, run_id: str, as_json: bool) -> None:
    """Stop a run on Kubeflow; RUN is its id. What finished children learned is in the study."""
    from pipelines.cluster import ENDED, Cluster

    cluster = Cluster(find())
    run = cluster.run(run_id)
    if run.get("state") in ENDED:
        raise InputError.of("RUN", run_id, f"has ended already ({run['state'].lower()})")
    cluster.cancel(run_id)
    if as_json:
        click.echo(json.dumps({"run_id": run_id, "canceled": True}))
    else:
        click.echo(f"{run.get('display_name', run_id)} is being stopped.")


def _say_started(cluster: "Cluster", run: "Thing", *, as_json: bool) -> None:
    from pipelines.cluster_runs import link

    page = link(cluster, run["run_id"])
    lines = [f"Run {run['run_id']} has been started."]
    lines += [] if page is None else [f"  page:   {page}"]
    lines += [f"  follow: nas status --wait {run['run_id']}"]
    click.echo("\n".join(lines), err=as_json)


def _say_run(cluster: "Cluster", run: "Thing") -> None:
    from pipelines.cluster_runs import describe, shown_state

    told = describe(cluster, run)
    click.echo(f"{told['name']}: {told['state'].lower()}")
    for task in told["tasks"]:
        click.echo(f"  {task['name']:<24} {shown_state(task)}")
    for failure in told["failed"]:
        click.echo(f"  {failure['name']} failed: {failure['error']}")
    if told["url"] is not None:
        click.echo(f"  page: {told['url']}")


def _follow(
    cluster: "Cluster", run: "Thing", *, wait_s: float | None, as_json: bool, also: Any = None
) -> None:
    """Waits if asked, prints the JSON if asked, and ends the process as the run ended."""
    from pipelines.cluster_errors import ClusterError
    from pipelines.cluster_runs import describe, wait

    goes_on = f"The run goes on; follow: nas status --wait {run['run_id']}"
    try:
        if wait_s is not None:
            say: Callable[[str], None] = partial(click.echo, err=as_json)
            run = wait(cluster, run["run_id"], say, poll_s=wait_s)
    except KeyboardInterrupt:
        click.echo(goes_on, err=True)
        sys.exit(INTERRUPTED)
    except ClusterError as error:
        click.echo(f"{error}\n{goes_on}", err=True)
        sys.exit(error.exit_status)
    told = {**describe(cluster, run), **(also or {})}
    if as_json:
        click.echo(json.dumps(told))
    if wait_s is None:
        return
    if told["state"] != "SUCCEEDED":
        _say_failed(told)
        sys.exit(FAILED)
    if not as_json:
        click.echo(f"The run {run['run_id']} has succeeded.")


def _say_failed(told: "Thing") -> None:
    lines = [f"The step {fault['name']} failed: {fault['error']}" for fault in told["failed"]]
    lines = lines or [f"No step is named as the cause; its state is {told['state']}"]
    title = f"The run {told['run_id']} has not succeeded ({told['state'].lower()}):"
    click.echo("\n  ".join([title, *lines]), err=True)
    if told["url"] is not None:
        click.echo(f"  page: {told['url']}", err=True)
