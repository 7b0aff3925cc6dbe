"""What `nas doctor` looks at in a pod of a cluster, where the environment says that it is one."""

import os
import socket

from components import variables
from components.config.schema import Config
from nascore.errors import InputError
from pipelines.doctor.finding import Finding

REACH = "NAS_DOCTOR_REACH"
"""Servers that must take connections, `HOST:PORT` each, with spaces between them."""
_CONNECT_S = 5.0
_STORE_S = 15.0


def check_state(config: Config) -> Finding:
    """Whether the place of the state of runs can be written, as the first step finds it out."""
    from components.run_state.checks import check_state

    root = os.environ[variables.STATE_ROOT]
    try:
        check_state(root, patience_s=_STORE_S)
    except InputError as error:
        problem = error.problems[0]
        return Finding("state", "problem", f"{problem.value}: {problem.message}")
    return Finding("state", "ok", f"{root} can be written")


def check_reach(config: Config) -> Finding:
    """Whether servers take connections from here."""
    wanted = os.environ[REACH].split()
    faults = [f"{server} ({fault})" for server in wanted if (fault := _fault(server))]
    if faults:
        advice = (
            "let the pods of steps, which have the label pipeline/runid, through the network "
            "policies of both namespaces (manifests/closed/network.yaml)"
        )
        return Finding("reach", "problem", f"not reached: {', '.join(faults)}", advice)
    return Finding("reach", "ok", ", ".join(wanted))


def _fault(server: str) -> str:
    host, _, port = server.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=_CONNECT_S):
            return ""
    except TimeoutError:
        return f"no answer within {_CONNECT_S:g} s"
    except OSError as error:
        return error.strerror or str(error)


CHECKS = {variables.STATE_ROOT: check_state, REACH: check_reach}
"""By the variable without which there is nothing to check."""
