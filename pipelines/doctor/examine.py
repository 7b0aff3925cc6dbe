"""`nas doctor`: checks of this machine or image, with advice."""

import os
from collections.abc import Callable, Iterator
from functools import partial

from components.config.schema import Config
from pipelines.doctor import machine_checks, pod_checks, service_checks
from pipelines.doctor.finding import Finding


def examine(config: Config, *, retrains: bool = False) -> Iterator[Finding]:
    """Run all checks; a check that raises is a problem itself.

    Args:
        config: of a run.
        retrains: whether the run is one of the retraining pipeline.
    """
    in_pod = [check for variable, check in pod_checks.CHECKS.items() if os.environ.get(variable)]
    known = {check.__name__ for check in in_pod}
    own = [check for check in CHECKS if check.__name__ not in known]
    for check in (*own, *in_pod):
        finding = _finding(check, config)
        yield finding
        if check is service_checks.check_tracking and finding.state == "ok":
            yield _finding(partial(service_checks.check_champion, retrains=retrains), config)


def _finding(check: Callable[[Config], Finding], config: Config) -> Finding:
    try:
        return check(config)
    except Exception as error:  # a failing check must not end the others
        name = getattr(check, "func", check).__name__.removeprefix("check_")
        return Finding(name, "problem", f"{type(error).__name__}: {error}")


CHECKS: tuple[Callable[[Config], Finding], ...] = (
    machine_checks.check_python,
    machine_checks.check_packages,
    machine_checks.check_torch,
    machine_checks.check_memory,
    machine_checks.check_disk,
    machine_checks.check_output,
    machine_checks.check_scratch,
    machine_checks.check_shm,
    service_checks.check_study,
    service_checks.check_tracking,
    service_checks.check_data,
    service_checks.check_pretrained,
    service_checks.check_export,
    service_checks.check_state,
)
