"""Scaling of a study with many children: time to open it, memory, and time per suggestion.

    python benchmarks/study_scale.py --storage postgresql://USER:PASSWORD@HOST/EMPTY_DATABASE

Fills a study (rows are written in bulk; a search would take months), then opens it in a new process
for each method and continues it: start, suggest, propose, finish, learn. Writes
docs/results/study_scale.json. Use an empty database that nothing else uses.
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from optuna.storages._rdb import models
from optuna.trial import TrialState
from sqlalchemy import insert
from sqlalchemy.orm import Session

from nascore.latency.benchmark import device_name
from nascore.methods.registry import METHODS
from nascore.results import Child, ChildScores
from nascore.search.database_url import resolve_url, without_password
from nascore.search.proposer import Proposer
from nascore.search.study import Study
from nascore.search.study_storage import Storage
from nascore.seeding import Seeds
from nascore.spaces import base
from nascore.spaces.base import SearchSpace, make_space
from nascore.spaces.chain.config import ChainSpaceConfig
from nascore.spaces.nasbench201.config import Cell201SpaceConfig

RESULTS = Path(__file__).parent.parent / "docs" / "results" / "study_scale.json"
_SPACES = {"chain": ChainSpaceConfig(), "nasbench201": Cell201SpaceConfig()}
_NUM_SUGGESTIONS = 50
_CHUNK = 5000


def identity(space: SearchSpace) -> dict[str, Any]:
    return {"method": "scale", "space": space.identifier}


def accuracy(tokens: tuple[int, ...], cardinalities: tuple[int, ...]) -> float:
    """Return an artificial accuracy that depends on the tokens."""
    shares = np.array(tokens) / np.maximum(1, np.array(cardinalities) - 1)
    return float(0.5 + 0.4 * np.mean(np.abs(shares - 0.3)))


def child_of(space: SearchSpace, number: int, rng: np.random.Generator) -> Child:
    genotype = base.sample(space, rng)
    value = accuracy(genotype.tokens, space.cardinalities)
    scores = ChildScores(value, value, num_params=1000)
    times = {"started_s": float(number), "ended_s": number + 1.0}
    return Child.of_scores(number, genotype, scores, num_steps=100, **times)


def fill(url: str, name: str, space: SearchSpace, count: int) -> None:
    """Write `count` finished children as a search stores them."""
    storage = Storage(url)
    study = Study(storage, name, identity(space))
    engine, worker = storage.optuna.engine, json.dumps(storage.worker.to_dict())  # type: ignore[union-attr]
    rng, now = np.random.default_rng(0), datetime.now()
    for start in range(0, count, _CHUNK):
        numbers = range(start, min(count, start + _CHUNK))
        children = [child_of(space, number, rng) for number in numbers]
        with Session(engine) as session:
            rows = [
                {
                    "study_id": study._id,
                    "number": child.number,
                    "state": TrialState.COMPLETE,
                    "datetime_start": now,
                    "datetime_complete": now,
                }
                for child in children
            ]
            statement = insert(models.TrialModel).returning(
                models.TrialModel.trial_id, sort_by_parameter_order=True
            )
            ids = list(session.scalars(statement, rows))
            values, attributes = [], []
            for trial_id, child in zip(ids, children, strict=True):
                values.append(
                    {
                        "trial_id": trial_id,
                        "objective": 0,
                        "value": child.valid_accuracy,
                        "value_type": models.TrialValueModel.TrialValueType.FINITE,
                    }
                )
                for key, value in (
                    ("worker", worker),
                    ("genotype", json.dumps(child.genotype.to_dict())),
                    ("child", json.dumps(child.to_dict())),
                ):
                    attributes.append({"trial_id": trial_id, "key": key, "value_json": value})
            session.execute(insert(models.TrialValueModel), values)
            session.execute(insert(models.TrialUserAttributeModel), attributes)
            session.commit()
    storage.close()


def memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(
    url: str, name: str, space: SearchSpace, method: str, controller: Path
) -> dict[str, Any]:
    """Measure in a process that does nothing else, since memory is the process's peak."""
    module = METHODS[method].load_proposing()
    assert module is not None
    options, seeds = METHODS[method].options(), Seeds(0)
    module.prepare_proposer(options, space, seeds, controller)
    proposer: Proposer = module.make_proposer(
        options, space, seeds, "method", controller=controller
    )
    before_mb, start = memory_mb(), time.perf_counter()
    storage = Storage(url)
    study = Study(storage, name, identity(space))
    history = study.new_children()
    opened_s = time.perf_counter() - start
    start = time.perf_counter()
    for child in history:
        proposer.update(child)
    proposer.suggest(len(history))
    learned_s = time.perf_counter() - start
    suggest_ms, study_ms = [], []
    for _ in range(_NUM_SUGGESTIONS):
        start = time.perf_counter()
        attempt = study.start(lambda children, ahead: True)
        assert attempt is not None
        started = time.perf_counter()
        genotype = proposer.suggest(attempt.number)
        suggested = time.perf_counter()
        study.propose(attempt, genotype)
        value = accuracy(genotype.tokens, space.cardinalities)
        scores, now = ChildScores(value, value, num_params=1000), time.time()
        child = Child.of_scores(attempt.number, genotype, scores, started_s=now, ended_s=now)
        study.finish(attempt, child)
        new_children = study.new_children()
        finished = time.perf_counter()
        for child in new_children:
            proposer.update(child)
        updated = time.perf_counter()
        suggest_ms.append(1e3 * (suggested - started + updated - finished))
        study_ms.append(1e3 * (started - start + finished - suggested))
    storage.close()
    return {
        "method": method,
        "open_s": round(opened_s, 2),
        "first_suggestion_s": round(learned_s, 2),
        "suggestion_ms_median": round(statistics.median(suggest_ms), 2),
        "suggestion_ms_max": round(max(suggest_ms), 2),
        "study_ms_median": round(statistics.median(study_ms), 2),
        "peak_mb": round(memory_mb()),
        "peak_mb_before": round(before_mb),
    }


def in_a_process(
    arguments: argparse.Namespace, name: str, space: str, method: str
) -> dict[str, Any]:
    command = [sys.executable, __file__, "--storage", arguments.storage, "--space", space]
    done = subprocess.run(
        [*command, "--one", name, "--methods", method],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--storage", required=True, help="URL of an empty database")
    parser.add_argument("--trials", default="1000,10000,100000")
    parser.add_argument("--methods", default="nases,random,regularized-evolution,local-search,tpe")
    parser.add_argument("--space", default="chain", choices=_SPACES)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url, space = resolve_url(arguments.storage), make_space(_SPACES[arguments.space])
    if arguments.one:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure(url, arguments.one, space, arguments.methods, Path(folder))))
        return
    results = []
    for count in map(int, arguments.trials.split(",")):
        name = f"scale-{count}-{time.time_ns()}"
        start = time.perf_counter()
        fill(url, name, space, count)
        print(f"{count} children written in {time.perf_counter() - start:.0f} s", flush=True)
        for method in arguments.methods.split(","):
            measured = in_a_process(arguments, name, arguments.space, method)
            results.append({"children": count, **measured})
            print(json.dumps(results[-1]), flush=True)
    document = {
        "version": 1,
        "command": f"python benchmarks/study_scale.py --storage {without_password(url)} "
        f"--trials {arguments.trials} --methods {arguments.methods} --space {arguments.space}",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": device_name(torch.device("cpu")),
        "python": platform.python_version(),
        "optuna": optuna.__version__,
        "suggestions": _NUM_SUGGESTIONS,
        "results": results,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(document, indent=2) + "\n")
    print(f"Wrote {arguments.out}")


if __name__ == "__main__":
    main()
