"""What is compiled into a pipeline's tasks and no parameter of a run can change; its checks.

The number of pods is compiled. A run with fewer workers leaves some of them without work, and they
end at once; one with more is refused by the first step.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.config.devices import DEVICES, asking_for_cuda
from components.config.schema import Config
from components.steps.state import RUN, read_json, write_json
from nascore.errors import InputError, Problem
from nascore.methods.registry import METHODS

_AGAIN = "compile or submit the pipeline with"


@dataclass(frozen=True, slots=True)
class Compiled:
    """Facts of a compiled pipeline.

    Attributes:
        workers: processes that train children: in the search task, then in each further pod; empty
            on one machine, where the search starts as many as it should.
        without_gpu: steps whose pods have no GPU.
        searches: whether a search is sure to follow.
        devices: GPUs of the pods that train one network together.
    """

    workers: tuple[int, ...] = ()
    without_gpu: tuple[str, ...] = ()
    searches: bool = False
    devices: int = 1

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Compiled":
        """Return the facts that `to_dict` wrote; Kubeflow passes its numbers as fractions."""
        return cls(
            tuple(int(count) for count in facts.get("workers", ())),
            tuple(facts.get("without_gpu", ())),
            bool(facts["searches"]),
            int(facts.get("devices", 1)),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the facts as a constant of a task."""
        facts = {
            "workers": list(self.workers),
            "without_gpu": list(self.without_gpu),
            "devices": self.devices if self.devices > 1 else None,
        }
        return {name: value for name, value in facts.items() if value} | {"searches": self.searches}

    def division(self, config: Config) -> tuple[int, ...]:
        """Return how the workers of a run are divided; 0 for a pod without work.

        Raises:
            InputError: the pipeline's pods cannot do what the configuration asks for.
        """
        problems = [*self._without_gpu(config), *self._too_many_devices(config)]
        count = config.search.workers
        if not self.workers:
            division: tuple[int, ...] = (count,)
        elif METHODS[config.method].worker_layout == "group":
            division = (count, *(0 for _ in self.workers[1:]))
            if count > self.workers[0]:
                message = (
                    f"{config.method} trains one network with all workers, which are in one pod, "
                    f"and this pipeline was compiled for {self.workers[0]} there; set it to "
                    f"{self.workers[0]}, or {_AGAIN} this method and number"
                )
                problems.append(Problem("search.workers", str(count), message))
        else:
            division = _filled(self.workers, count)
            if count > sum(self.workers):
                message = (
                    f"this pipeline was compiled for {sum(self.workers)}, and has no more pods; "
                    f"use at most {sum(self.workers)}, or {_AGAIN} more workers"
                )
                problems.append(Problem("search.workers", str(count), message))
            if any(division[1:]) and config.search.storage is None:
                message = "workers in several pods share a database; give its URL, or env:NAME"
                problems.append(Problem("search.storage", "", message))
        if problems:
            raise InputError(problems)
        return division

    def _too_many_devices(self, config: Config) -> list[Problem]:
        asked = config.training.devices
        if not self.workers or asked <= self.devices:
            return []
        message = (
            f"this pipeline was compiled for {self.devices}, and its pods have no more GPUs; use "
            f"at most {self.devices}, or {_AGAIN} {asked}"
        )
        return [Problem("training.devices", str(asked), message)]

    def _without_gpu(self, config: Config) -> list[Problem]:
        return [
            Problem(
                one.key,
                one.value,
                f"the pod of {step} has no GPU; use {one.otherwise}, or {_AGAIN} one",
            )
            for one in asking_for_cuda(config)
            for step in DEVICES[one.key]
            if step in self.without_gpu
        ]


def _filled(pods: Sequence[int], count: int) -> tuple[int, ...]:
    """Return the processes in each pod, the first pods filled first."""
    division = []
    for most in pods:
        division.append(min(most, count))
        count -= division[-1]
    return tuple(division)


# --- in the folder of the data ----------------------------------------------------------------


def write_run(
    dataset: Path,
    *,
    run_key: str,
    division: Sequence[int],
    store_warnings: Sequence[str] = (),
    retrains: bool = False,
) -> None:
    """Write what the later steps of this run need to know, and another run of the same data not."""
    facts = {
        "run_key": run_key,
        "workers": list(division),
        "store_warnings": list(store_warnings),
        "retrains": retrains,
    }
    write_json(dataset / RUN, facts)


def store_warnings_of(dataset: Path) -> list[str]:
    """Return the warnings of the first step about the places of state and exported files."""
    return list(read_json(dataset / RUN)["store_warnings"])


def run_key_of(dataset: Path) -> str:
    """Return the key by which all steps find the tracked run."""
    return str(read_json(dataset / RUN)["run_key"])


def retrains(dataset: Path) -> bool:
    """Return whether this is the retraining pipeline."""
    return bool(read_json(dataset / RUN).get("retrains"))


def workers_of(dataset: Path, place: int) -> int:
    """Return the number of processes that train children in a pod.

    Args:
        dataset: folder of the prepared data.
        place: 0 for the search task, else the number of a pod of workers.
    """
    division: list[int] = read_json(dataset / RUN)["workers"]
    return division[place]
