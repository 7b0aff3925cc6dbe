"""Checks in a pod of a cluster, enabled by environment variables."""

import os
import socket

from components import variables
from components.config.schema import Config
from nascore.errors import InputError
from pipelines.doctor.finding import Finding

REACH = "NAS_DOCTOR_REACH"
"""Variable with servers that must accept connections: `HOST:PORT`, separated by spaces."""
_CONNECT_S = 5.0
_STORE_S = 15.0


def check_state(config: Config) -> Finding:
    """Check that the place of the state of runs is writable, as the first step does."""
    from components.run_state.checks import check_state

    root = os.environ[variables.STATE_ROOT]
    try:
        warning = check_state(root, retry_timeout_s=_STORE_S)
    except InputError as error:
        problem = error.problems[0]
        return Finding("state", "problem", f"{problem.value}: {problem.message}")
    return Finding("state", "warning" if warning else "ok", f"{root} can be written", warning)


def check_reach(config: Config) -> Finding:
    """Check that servers accept connections from this pod."""
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
"""Checks by the environment variable that enables them."""
