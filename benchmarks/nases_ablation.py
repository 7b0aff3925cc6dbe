"""Ablation of NASES on a table of trained architectures: one part is left out at a time.

    python benchmarks/nases_ablation.py --table nasbench201_cifar10.csv.gz --out FOLDER

Writes bench.json, bench.md and bench.svg, as `nas bench --out` does.
"""

import argparse
import tempfile
import time
from collections.abc import Container
from pathlib import Path
from typing import cast

import numpy as np
from torch import Tensor

from nascore.genotype import Genotype
from nascore.methods.nases.method import NasesProposer, prepare_proposer
from nascore.methods.nases.options import NasesOptions
from nascore.methods.nases.surrogate import Surrogate
from nascore.seeding import Seeds
from nascore.tabular_benchmark import writing
from nascore.tabular_benchmark.replay import (
    STREAM,
    MethodSettings,
    Outcome,
    ReplayPlan,
    max_proposals,
    replay,
)
from nascore.tabular_benchmark.table import read_table
from nascore.threads import thread_limit


class EqualRelevance(NasesProposer):
    """All tokens have the same weight in the kernel."""

    class _Surrogate(Surrogate):
        relevance = False

    surrogate_class = _Surrogate


class WithoutNeighbourhoods(NasesProposer):
    """The candidates are samples of the policy alone."""

    num_neighbourhoods = 0


class WithoutTokenSteps(NasesProposer):
    """The selected candidate is not improved by single tokens."""

    num_token_steps = 0


class WithoutSurrogate(NasesProposer):
    """The first new sample of the policy is taken."""

    def candidates(self, rng: np.random.Generator) -> Tensor:
        return self.policy_samples(16, rng)

    def select(
        self, candidates_ML: Tensor, seen: Container[str], pending: list[Genotype]
    ) -> Genotype | None:
        new = self.deduplicator.new_indices(candidates_ML, seen)
        return self.genotype(candidates_ML[new[0]]) if len(new) else None


VARIANTS: dict[str, type[NasesProposer]] = {
    "equal-relevance": EqualRelevance,
    "not-surrounded": WithoutNeighbourhoods,
    "no-steps": WithoutTokenSteps,
    "no-critic": WithoutSurrogate,
}


def run(label: str, kind: type[NasesProposer], options: NasesOptions, plan: ReplayPlan) -> Outcome:
    """Replay all seeds of one variant."""
    entry, space = MethodSettings(label, "nases", options), plan.table.space
    with tempfile.TemporaryDirectory() as folder, thread_limit(1):
        start = time.perf_counter()
        prepare_proposer(options, space, Seeds(plan.seeds.start), Path(folder))
        prepare_s = time.perf_counter() - start
        replays = [
            replay(
                kind.load(Path(folder), options, space, Seeds(seed), STREAM),
                plan.table,
                queries=plan.queries,
                max_proposals=max_proposals(plan),
            )
            for seed in plan.seeds
        ]
    return Outcome(entry, tuple(replays), prepare_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--first-seed", type=int, default=1000)
    given = parser.parse_args()
    table = read_table(
        given.table, "nasbench201", search_metric="c10_valid", report_metric="c10_test"
    )
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    usual, patient = NasesOptions(), NasesOptions(patience=0)
    cases = [("nases", NasesProposer, usual), ("no-restarts", NasesProposer, patient)]
    cases += [(label, kind, usual) for label, kind in VARIANTS.items()]
    entries = tuple(MethodSettings(label, "nases", options) for label, _, options in cases)
    plan = ReplayPlan(table, entries, given.queries, seeds)
    outcomes = [run(label, kind, options, plan) for label, kind, options in cases]
    writing.write(given.out, writing.document(plan, outcomes), outcomes)
    print(cast(Path, given.out / "bench.md").read_text())


if __name__ == "__main__":
    main()
