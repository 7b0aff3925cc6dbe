"""A worker of a study: pooled_worker.py URL SECONDS...; prints each child that it trained.

Training is a sleep of the given seconds, one number for each child. Each process has a host name
of its own, so that workers know of each other by heartbeats alone, as on machines of a cluster.
"""

import logging
import os
import sys
import time

from nascore.genotype import Genotype
from nascore.results import Child
from nascore.search import worker_identity
from nascore.search.study import Study
from nascore.search.study_storage import Storage

IDENTITY = {"version": 3, "method": "random"}
WORKER_TIMEOUT_S = 6


def main(url: str, trainings_s: list[float]) -> None:
    logging.basicConfig(level=logging.WARNING)
    worker_identity._host = lambda: f"host-{os.getpid()}"  # type: ignore[assignment]
    storage = Storage(url, worker_timeout_s=WORKER_TIMEOUT_S)
    study = Study(storage, "pooled/method", IDENTITY)
    while True:
        attempt = study.start(lambda ended, ahead: len(ended) + len(ahead) + 1 <= len(trainings_s))
        if attempt is None:
            break
        genotype = Genotype(space="chain", tokens=(attempt.number, 0))
        if not study.propose(attempt, genotype):
            study.withdraw(attempt)
            continue
        time.sleep(trainings_s[attempt.number])
        study.finish(attempt, Child(number=attempt.number, genotype=genotype, objective=0.5))
        print(attempt.number, flush=True)
    storage.close()


if __name__ == "__main__":
    main(sys.argv[1], [float(one) for one in sys.argv[2:]])
