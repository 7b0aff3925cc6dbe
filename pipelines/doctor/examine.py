"""`nas doctor`: checks of this machine or image, with advice."""

import os
from collections.abc import Callable, Iterator

from components.config.schema import Config
from pipelines.doctor import machine_checks, pod_checks, service_checks
from pipelines.doctor.finding import Finding


def examine(config: Config) -> Iterator[Finding]:
    """Run all checks; a check that raises is a problem itself."""
    in_pod = [check for variable, check in pod_checks.CHECKS.items() if os.environ.get(variable)]
    known = {check.__name__ for check in in_pod}
    own = [check for check in CHECKS if check.__name__ not in known]
    for check in (*own, *in_pod):
        try:
            yield check(config)
        except Exception as error:  # a failing check must not end the others
            yield Finding(
                check.__name__.removeprefix("check_"), "problem", f"{type(error).__name__}: {error}"
            )


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
    service_checks.check_export,
    service_checks.check_state,
)
