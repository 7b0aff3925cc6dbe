"""Diagnosis of a run: its controller, the course of its search, and its shared weights."""

import logging
from typing import cast

from nascore.errors import InputError
from nascore.genotype import Genotype
from nascore.methods.common.run_diagnosis import DiagnosisReport, SearchedRun, TrainedTable
from nascore.methods.enas import method
from nascore.methods.enas.diagnosis.correlation import RankCorrelation, rank_correlation
from nascore.methods.enas.diagnosis.diagnosis import SEEDS, diagnose, fixed_set
from nascore.methods.enas.diagnosis.page import Findings, headline, render
from nascore.methods.enas.options import EnasOptions
from nascore.seeding import Seeds
from nascore.spaces.base import SharedSpace, make_genotype
from nascore.spaces.nasbench201.space import Cell201Space

_NUM_EVALUATED = 100  # with shared weights, as many as a search ranks at its end
_FEWEST = 10  # of these in the table; a correlation of fewer is not significant

_log = logging.getLogger(__name__)


def diagnose_run(run: SearchedRun, table: TrainedTable | None) -> DiagnosisReport:
    """Examine the controller of a run; see `nascore.methods.common.run_diagnosis`."""
    options = cast(EnasOptions, run.options)
    now, initial = method.load_controllers(
        run.state, run.method, run.space, options, Seeds(run.seed)
    )
    # First, since the table may still be refused.
    shared = {} if table is None else _shared_weights(run, table)
    fixed = fixed_set(cast(SharedSpace, run.space))
    findings = Findings(
        method=run.method,
        source=run.source,
        seed=run.seed,
        now=diagnose(now, fixed),
        initial=diagnose(initial, fixed),
        shared_weights=shared,
        table=None if table is None else {"name": table.name, "column": table.column},
        history=run.history,
    )
    return DiagnosisReport(
        lines=tuple(
            f"{tile['label']:<16}{tile['value']:<10}{tile['note']}" for tile in headline(findings)
        ),
        page=render(findings),
        document=findings.to_dict(),
    )


def _shared_weights(run: SearchedRun, table: TrainedTable) -> dict[str, RankCorrelation]:
    """Return by arm how well shared weights rank the architectures of the table.

    Raises:
        InputError: the table has too few architectures of the fixed set.
    """
    context = cast(method.Context, run.open_context())
    known = _known(cast(SharedSpace, run.space), table)
    genotypes = [genotype for genotype, _ in known]
    alone = [accuracy for _, accuracy in known]
    found = {}
    for arm in run.arms:
        _log.info("%s: evaluating %d architectures with shared weights", arm, len(genotypes))
        shared = method.evaluate_with_shared_weights(context, arm, genotypes)
        found[arm] = rank_correlation(shared, alone, SEEDS.numpy("diagnosis", "shared weights"))
    return found


def _known(space: SharedSpace, table: TrainedTable) -> list[tuple[Genotype, float]]:
    """Return architectures of the fixed set that are in the table, with their accuracies."""
    cells = cast(Cell201Space, table.space)  # has all operations, the run's space may have fewer
    tokens_NT = fixed_set(space).tokens_NT
    known = []
    for tokens in tokens_NT.tolist():
        genotype = make_genotype(space, tokens)
        in_table = cells.from_arch_str(space.describe(genotype)).tokens
        if in_table in table.accuracies:
            known.append((genotype, table.accuracies[in_table]))
    if len(known) < _FEWEST:
        raise InputError.of(
            "--table",
            table.name,
            f"has {len(known)} of the {len(tokens_NT)} architectures of the diagnosis; {_FEWEST} "
            "are needed",
        )
    return known[:_NUM_EVALUATED]
