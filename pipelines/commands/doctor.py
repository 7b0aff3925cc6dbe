"""`nas doctor`: checks of this machine, or of a cluster."""

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from nascore.errors import InputError, Problem
from pipelines.commands.options import configuration, given, one_message
from pipelines.commands.shortcuts import shortcuts
from pipelines.definitions.kinds import KINDS, Kind
from pipelines.doctor.finding import Finding
from pipelines.exit_status import FAILED
from pipelines.kubeflow.doctor.kubeconfig import CONTEXT, KUBEFLOW_NAMESPACE

if TYPE_CHECKING:
    from components.config.schema import Config

_OF_CLUSTER = (
    click.option("--cluster", "is_cluster", is_flag=True, help="Check a cluster instead."),
    click.option(
        "--kind",
        type=click.Choice(KINDS),
        default="search",
        show_default=True,
        help="Pipeline that would run.",
    ),
    click.option("--image", callback=given, help="Image of all steps."),
    click.option(
        "--namespace",
        callback=given,
        envvar="NAS_KFP_NAMESPACE",
        show_envvar=True,
        help="Namespace of the pods.",
    ),
    click.option(
        "--service-account",
        callback=given,
        metavar="NAME",
        help="Kubernetes account of the pods [KFP's].",
    ),
    click.option(
        "--kube-context",
        envvar=CONTEXT,
        show_envvar=True,
        metavar="NAME",
        help="Context of the kubeconfig [the current one].",
    ),
    click.option(
        "--kubeflow-namespace",
        envvar=KUBEFLOW_NAMESPACE,
        show_envvar=True,
        default="kubeflow",
        show_default=True,
        help="Namespace of Kubeflow Pipelines.",
    ),
    click.option(
        "--probe", is_flag=True, help="Also run the checks in a pod there, which is removed."
    ),
    click.option(
        "--probe-timeout",
        "probe_s",
        type=click.FloatRange(min=1, max=3600),
        default=300.0,
        show_default=True,
        metavar="SECONDS",
        help="Longest wait for that pod, which may have to pull the image.",
    ),
)
_CLUSTER_ONLY = {
    "image",
    "namespace",
    "service_account",
    "kube_context",
    "kubeflow_namespace",
    "probe",
    "probe_s",
}
_WIDTH = {False: 10, True: 18}


@configuration
@shortcuts()
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@one_message
def doctor(
    config: Path | None,
    preset: str | None,
    settings: tuple[str, ...],
    as_json: bool,
    is_cluster: bool,
    **options: Any,
) -> None:
    """Check this machine, or a cluster: Python, torch, GPU, memory, disk, MLflow store, data.

    With --cluster: checks that a pipeline can run there: version of Kubeflow, rights, secrets,
    volume, quotas and nodes. Nothing is changed in the cluster unless --probe is given.
    """
    from pipelines.config import resolve

    if not is_cluster:
        _refuse_options()
    resolved = resolve(config, preset, settings)
    found = _of_cluster(resolved, **options) if is_cluster else _of_machine(resolved, **options)
    seen = list(_shown(found, as_json=as_json, width=_WIDTH[is_cluster]))
    if as_json:
        click.echo(json.dumps([finding.to_dict() for finding in seen]))
    sys.exit(FAILED if any(finding.state == "problem" for finding in seen) else 0)


for _option in reversed(_OF_CLUSTER):
    doctor = _option(doctor)


def _refuse_options() -> None:
    """Raise InputError for options that concern only a cluster."""
    context = click.get_current_context()
    given = [
        parameter
        for parameter in context.command.params
        if context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
        and parameter.name in _CLUSTER_ONLY
    ]
    if given:
        message = "is about a cluster; add --cluster"
        raise InputError([Problem(one.opts[0], "", message) for one in given])


def _shown(found: Iterable[Finding], *, as_json: bool, width: int) -> Iterator[Finding]:
    """Yield findings, and print each."""
    for finding in found:
        if not as_json:
            lines = [f"{finding.state:<9}{finding.name:<{width}} {finding.seen}"]
            command = getattr(finding, "command", "")
            if finding.advice:
                lines.append(f"{'':{width + 2}}-> {finding.advice}")
            if command and finding.state != "ok":
                lines.append(f"{'':{width + 2}}$ {command}")
            click.echo("\n".join(lines))
        yield finding


def _of_machine(config: "Config", *, kind: Kind, **_: Any) -> Iterator[Finding]:
    from pipelines.doctor.examine import examine

    return examine(config, retrains=kind == "retrain")


def _of_cluster(
    config: "Config",
    *,
    kind: Kind,
    image: str | None,
    namespace: str | None,
    service_account: str | None,
    kube_context: str | None,
    kubeflow_namespace: str,
    probe: bool,
    probe_s: float,
) -> Iterator[Finding]:
    from components.image import IMAGE
    from pipelines.kubeflow.doctor import kubeflow
    from pipelines.kubeflow.doctor.examine import examine
    from pipelines.kubeflow.doctor.kubeconfig import connect
    from pipelines.kubeflow.doctor.probe import probe as run_probe
    from pipelines.kubeflow.doctor.target import make_target

    kube = connect(kube_context)
    if kube is None:
        message = "there is neither a kubeconfig nor the account of a pod; set KUBECONFIG"
        raise InputError.of("--cluster", None, message)
    target = make_target(
        config,
        kube,
        kind=kind,
        image=image or IMAGE,
        namespace=namespace,
        kubeflow=kubeflow_namespace,
        account=service_account,
        health=kubeflow.health(kube, kubeflow_namespace),
    )
    ends_here = False
    for finding in examine(target):
        yield finding
        gone = finding.name in ("kubernetes", "namespace") and finding.state == "problem"
        ends_here = ends_here or gone
    if probe and not ends_here:
        yield from run_probe(target, limit_s=probe_s)
