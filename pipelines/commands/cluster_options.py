"""Options of the commands that use a KFP API server."""

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from pipelines.commands.options import given, one_message
from pipelines.kubeflow import connection
from pipelines.kubeflow.connection import Connection
from pipelines.kubeflow.errors import ClusterError

_OPTIONS = {  # by parameter
    "host": click.option(
        "--host",
        envvar=connection.HOST,
        show_envvar=True,
        metavar="URL",
        help="Address of Kubeflow Pipelines; in a pod, by default that of its cluster.",
    ),
    "ui": click.option(
        "--ui-host",
        "ui",
        envvar=connection.UI,
        metavar="URL",
        help="Address of its pages [--host].",
    ),
    "namespace": click.option(
        "--namespace",
        callback=given,
        envvar="NAS_KFP_NAMESPACE",
        show_envvar=True,
        help="Your namespace.",
    ),
    "token_file": click.option(
        "--token-file",
        envvar=connection.TOKEN_FILE,
        show_envvar=True,
        type=click.Path(path_type=Path),
        help=f"File with a token; or set {connection.TOKEN}, or {connection.COOKIE}.",
    ),
    "iap_client": click.option(
        "--iap-client-id",
        "iap_client",
        envvar=connection.IAP_CLIENT,
        show_envvar=True,
        help="Client of Google's Identity-Aware Proxy.",
    ),
    "ca_file": click.option(
        "--ca-file",
        envvar="NAS_KFP_CA_FILE",
        show_envvar=True,
        type=click.Path(path_type=Path),
        help="Certificates of the authorities to trust, in PEM form.",
    ),
    "insecure": click.option(
        "--insecure", is_flag=True, help="Trust any certificate; each command warns."
    ),
    "timeout_s": click.option(
        "--timeout",
        "timeout_s",
        type=click.FloatRange(min=0.1, max=600),
        metavar="SECONDS",
        help=f"Longest wait for one answer [{connection.TIMEOUT_S:g}; "
        f"{connection.CREATE_TIMEOUT_S:g} for the call that starts a run].",
    ),
}
as_json = click.option(
    "--json", "as_json", is_flag=True, help="Print the result as JSON and nothing else."
)


def seconds_option(
    flag: str, name: str, *, default: float, text: str, least: float = 0.1
) -> Callable[..., Any]:
    """Return an option for a time in seconds."""
    return click.option(
        flag,
        name,
        type=click.FloatRange(min=least),
        default=default,
        show_default=True,
        metavar="SECONDS",
        help=text,
    )


poll_option = seconds_option(
    "--poll", "poll_s", default=5.0, text="Pause between two requests while it waits."
)

Find = Callable[[], Connection]
"""Checks the options and returns the connection."""


def on_cluster(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options to a command, which gets `find`; print server errors as one message."""

    @wraps(command)
    def wrapped(**arguments: Any) -> None:
        own = {name: arguments.pop(name) for name in _OPTIONS}
        try:
            command(find=lambda: _find(dict(own)), **arguments)
        except ClusterError as error:
            click.echo(str(error), err=True)
            sys.exit(error.exit_status)

    decorated = one_message(wrapped)
    for option in reversed(_OPTIONS.values()):
        decorated = option(decorated)
    return decorated


def _find(options: dict[str, Any]) -> Connection:
    found = connection.connect(options.pop("host"), **options)
    if found.insecure:
        click.echo(
            f"warning: --insecure: nothing proves that {found.host} is who it says; anybody on the "
            "way can read your token and what you send",
            err=True,
        )
    return found
