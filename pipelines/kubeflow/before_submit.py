"""Checks before a run is started on Kubeflow, where an impossible run would wait for ever.

The checks without a cluster come first. The cluster is checked if there is a kubeconfig or a pod's
account, and only by checks whose problems mean that a run can never work.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from components.config.schema import Config
from nascore.errors import InputError, Problem, collect_problems
from pipelines.definitions.kinds import Kind
from pipelines.kubeflow.connection import Connection
from pipelines.kubeflow.data_checks import object_problems, path_problems, source_problems
from pipelines.kubeflow.doctor.kubeconfig import CONTEXT, KUBEFLOW_NAMESPACE
from pipelines.kubeflow.doctor.target import KUBEFLOW, SERVER
from pipelines.kubeflow.errors import ClusterError

if TYPE_CHECKING:
    from pipelines.kubeflow.doctor.client import Kube
    from pipelines.kubeflow.doctor.findings import ClusterFinding
    from pipelines.kubeflow.doctor.target import Target

_LIMIT_S = 5.0  # for one answer of the Kubernetes API, since the user waits for the start
_HERE = ("localhost", "127.0.0.1", "::1", "0.0.0.0")
_FROM_ENVIRONMENT = "env:"

Warn = Callable[[str], None]


def _echo(text: str) -> None:
    click.echo(f"warning: {text}", err=True)


def refuse_impossible_run(
    config: Config,
    image: str | None,
    *,
    connection: Connection,
    service_account: str | None,
    kind: Kind = "search",
    warn: Warn = _echo,
    environment: Mapping[str, str] = os.environ,
) -> None:
    """Check that a run could work.

    Args:
        config: configuration of the run, which can be compiled for a cluster.
        image: image of its steps; None for the default one.
        connection: connection to KFP's API server.
        service_account: account of its pods, if given.
        kind: which pipeline.
        warn: prints what is no reason to refuse the run.
        environment: may name a context of the kubeconfig, and Kubeflow's namespace.

    Raises:
        InputError: it could never work; with every reason.
        ClusterError: KFP's API server is unreachable.
    """
    from components.image import IMAGE
    from pipelines.kubeflow.doctor.target import make_target

    problems = [*offline_problems(config)]
    if not any(problem.key == "data.source" for problem in problems):
        problems += object_problems(config, warn)
    health = _health(connection)
    problems += _version_problems(health)
    with collect_problems(problems):
        kube = _kube(environment, warn)
        if kube is not None:
            target = partial(
                make_target,
                config,
                kube,
                kind=kind,
                image=image or IMAGE,
                namespace=connection.namespace or connection.pod_namespace,
                kubeflow=_kubeflow(connection, environment),
                account=service_account,
                health=health,
            )
            found = _findings(kube, target, is_named=bool(environment.get(CONTEXT)), warn=warn)
            known = {problem.key for problem in problems}  # the version of Kubeflow, for one
            problems += [one for one in _problems(found, warn) if one.key not in known]
    if problems:
        raise InputError(problems)


# --- without a cluster ----------------------------------------------------------------------


def offline_problems(config: Config) -> Iterator[Problem]:
    """Yield problems that are the same on every cluster."""
    wrong = list(source_problems(config))
    yield from wrong or path_problems(config)
    yield from _storage_problems(config)
    host = urlsplit(config.tracking.uri).hostname
    if host in _HERE:
        message = "a pod finds itself there; give the name of the service, such as nas-mlflow:5000"
        yield Problem("tracking.uri", config.tracking.uri, message)


def _storage_problems(config: Config) -> Iterator[Problem]:
    storage = config.search.storage
    if storage is None:
        return
    key, name = "search.storage", storage.removeprefix(_FROM_ENVIRONMENT)
    if name != storage:
        if name not in {*config.cluster.secrets, *config.cluster.config_maps}:
            message = f"no step has that variable; add it: --set cluster.secrets.{name}=SECRET/KEY"
            yield Problem(key, storage, message)
        return
    from nascore.search.database_url import resolve_url

    try:
        host = urlsplit(resolve_url(storage)).hostname
    except InputError as error:
        yield from error.problems
        return
    if host in _HERE:
        yield Problem(key, storage, "a pod finds itself there; give the name of the service")


# --- the cluster ----------------------------------------------------------------------------


def _health(connection: Connection) -> Mapping[str, Any] | None:
    """Return the health of KFP's API server; None if it refuses to answer.

    Raises:
        ClusterError: it is unreachable, so that the run cannot be started either.
    """
    from pipelines.kubeflow.client import Cluster

    try:
        return Cluster(connection).health()
    except ClusterError as error:
        if error.is_transient:
            raise
        return None


def _version_problems(health: Mapping[str, Any] | None) -> Iterator[Problem]:
    from pipelines.kubeflow.doctor.kubeflow import version_finding

    said = str((health or {}).get("tag_name") or "")
    found = version_finding(said)
    if found.state == "problem":
        yield Problem(found.name, said, found.advice)


def _kubeflow(connection: Connection, environment: Mapping[str, str]) -> str:
    """Return Kubeflow's namespace: the given one, else that in the address of the service."""
    named = environment.get(KUBEFLOW_NAMESPACE)
    service, _, rest = str(urlsplit(connection.host).hostname).partition(".")
    namespace, *more = rest.split(".")
    return named or (namespace if service == SERVER and more[:1] == ["svc"] else KUBEFLOW)


def _kube(environment: Mapping[str, str], warn: Warn) -> "Kube | None":
    """Return the cluster of the kubeconfig or pod; None without one, or with an unusable one.

    Raises:
        InputError: the context that the user has named cannot be used.
    """
    from pipelines.kubeflow.doctor.kubeconfig import connect

    context = environment.get(CONTEXT) or None
    try:
        return connect(context, timeout_s=_LIMIT_S, environment=environment)
    except InputError as error:
        if context is not None:
            raise
        warn(f"the cluster was not checked: {error}")
        return None


def _findings(
    kube: "Kube", target: "partial[Target]", *, is_named: bool, warn: Warn
) -> "list[ClusterFinding]":
    """Return the findings of the checks; none if the kubeconfig is of another cluster.

    Args:
        kube: the cluster.
        target: makes the target of the checks.
        is_named: whether the user has chosen the context of the cluster.
        warn: prints why the cluster was not checked.
    """
    from pipelines.kubeflow.doctor.client import KubeError
    from pipelines.kubeflow.doctor.examine import examine_before_run
    from pipelines.kubeflow.doctor.kubeflow import is_here

    try:
        here = True if is_named else is_here(kube, target.keywords["kubeflow"])
    except KubeError as error:
        warn(f"the cluster was not checked: {error}")
        return []
    if here is False:
        return []
    made = target()
    found = list(examine_before_run(made))
    if here is None and any(one.name == "namespace" and one.state == "problem" for one in found):
        # Kubeflow's namespace cannot be seen, and ours is not there: it is some other cluster.
        warn(f"{kube.place} has no namespace {made.namespace}, so it was not checked")
        return []
    return found


def _problems(found: "list[ClusterFinding]", warn: Warn) -> Iterator[Problem]:
    unseen = []
    problems = []
    for one in found:
        if one.name == "kubernetes" and one.state == "problem":
            warn(f"the cluster was not checked: {one.seen}")
        elif one.state == "problem":
            problems.append(Problem(one.name, "", f"{one.seen}; {one.advice}; see {one.command}"))
        elif one.state == "warning" and one.seen.startswith("not checked"):
            unseen.append(one.name)
        elif one.state == "warning":
            warn(f"{one.name}: {one.seen}; {one.advice}")
    if unseen:
        names = ", ".join(dict.fromkeys(unseen))
        warn(f"not checked, for lack of rights: {names}; nas doctor --cluster says which")
    if problems:
        warn("--no-check starts the run anyway, if you know that the cluster is right")
    yield from problems
