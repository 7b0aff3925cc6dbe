"""Print the capacity tables of docs/operators.md: `python scripts/capacity.py`.

Pods, processors, memory and GPUs are read from the pipeline that would be compiled. Bytes are
measured figures for each child, times the number of children; `tests/pipelines/test_capacity.py`
measures those of the database again on a real PostgreSQL.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from components.config.schema import parse
from pipelines.kubeflow.doctor.demand import Demand, demand_of
from pipelines.kubeflow.doctor.quantities import CPU, MEMORY

PAGE = Path(__file__).parent.parent / "docs" / "operators.md"
WORKERS = (1, 4, 8, 16, 64)
CHILDREN = (10, 100, 1000)
ARMS = 2
"""Random search, with which a search is compared, trains the same number of children."""
GPU = "nvidia.com/gpu"

# Measured as in the test, on PostgreSQL 15 with architectures of 24 tokens: 8,453,479 bytes after
# 20 trials, 9,035,111 after 400.
STUDY_EMPTY, STUDY_OF_CHILD = 8_400_000, 1_500
# Measured on two runs of `nas run --set method=random`: `du -sb` of the state after 20 trials gives
# 540,861 bytes, after 80 trials 816,987.
STATE_OF_CHILD = 4_600

_G = 10**9


def demand(workers: int) -> Demand:
    """Return the requests of a search with a number of workers, with default settings."""
    search = {"workers": workers, "storage": "env:NAS_STUDY_URL"}
    cluster = {"secrets": {"NAS_STUDY_URL": "nas-study/url"}, "state": "s3://bucket/state"}
    config = parse({"method": "nases", "search": search, "cluster": cluster})
    return demand_of(config, kind="search", image="registry/nas-python:1")


def pods(workers: int) -> tuple[str, ...]:
    """Return a row: pods of the run, and the requests of those that run at once."""
    found = demand(workers)
    at_once = [(step.copies, step.container.requests) for step in found.at_once()]
    cpu, memory, gpus = (
        sum(copies * requests.get(name, 0) for copies, requests in at_once)
        for name in (CPU, MEMORY, GPU)
    )
    return (
        str(workers),
        str(sum(step.copies for step in found.steps)),
        str(sum(copies for copies, _ in at_once)),
        f"{cpu:.0f}",
        f"{float(memory) / _G:.0f} GB",
        f"{gpus:.0f}",
    )


def sizes(children: int) -> tuple[str, ...]:
    """Return a row: bytes of the study in the database, and of the state of the search."""
    num_trials = ARMS * children
    study = STUDY_EMPTY + num_trials * STUDY_OF_CHILD
    return (
        f"{children:,}",
        f"{num_trials:,}",
        f"{study / 1e6:.1f} MB",
        f"{num_trials * STATE_OF_CHILD / 1e6:.2f} MB",
    )


def table(head: Sequence[str], rows: Iterator[tuple[str, ...]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def pods_table() -> str:
    """Return the table of the requests of runs."""
    head = ("workers", "pods of steps", "pods at once", "CPU", "memory", "GPUs")
    return table(head, map(pods, WORKERS))


def sizes_table() -> str:
    """Return the table of the data that runs leave behind."""
    head = ("children", "trials", "study in PostgreSQL", "state of the search")
    return table(head, map(sizes, CHILDREN))


if __name__ == "__main__":
    print(pods_table(), sizes_table(), sep="\n\n")
