"""Step 3: the search. Every child is kept at once; the step may be killed and started again."""

import time
from pathlib import Path
from typing import Any

from components.steps.context_builder import OnChild, load_task
from components.steps.runtime import Step, execute, read_config
from components.steps.state import read_json, write_json
from components.steps.workers import Inputs, Owner, worker_processes
from components.tracking import lineage
from nascore.config import OBJECTIVES
from nascore.context import SearchContext
from nascore.methods.registry import METHODS
from nascore.results import Arm, Child, SearchResult, best_child

RESULT = "search_result.json"  # in the step's state; there also when the step was stopped
_TOP = 3  # children that get a run of their own: thousands would make the page of a run slow


def run(
    *,
    run_key: str,
    config: Path,
    dataset: Path,
    controller: Path,
    workers_here: int = 1,
    search_result: Path,
    weights: Path,
) -> dict[str, float]:
    """Writes the search result as JSON (`nascore.results.SearchResult`).

    Args:
        weights: folder for what the final training starts from; empty where it starts anew.
        workers_here: processes that train children in this step, this one included; others may
            work on the study elsewhere.
    """
    settings = read_config(config)

    def work(step: Step) -> dict[str, float]:
        task = load_task(
            settings,
            step,
            dataset=dataset,
            controller=controller,
            on_child=_watcher(step),
            weights=weights,
        )
        pretraining = read_json(controller / "step.json")["seconds"]
        weights.mkdir(parents=True, exist_ok=True)
        others = Inputs(config, dataset, controller)
        owner = Owner(
            config=settings,
            run_key=run_key,
            state=step.state,
            note=lambda text: step.progress("note", text=text),
            should_stop=step.should_stop,
        )
        with step.busy("training"), worker_processes(owner, others, workers_here - 1):
            result = METHODS[settings.method].load().search(task)
        _track(step, task, result)
        metrics = {
            "valid_accuracy": result.valid_accuracy,
            f"valid_{result.objective}": result.score,
            "num_children": float(len(result.arm.children)),
            "seconds_with_pretraining": result.arm.seconds + pretraining,
        }
        outcome = {**result.to_dict(), "step": step.timing()}
        write_json(step.state / RESULT, outcome)
        write_json(search_result, outcome)
        return metrics

    return execute(
        "search",
        work,
        run_key=run_key,
        config=settings,
        inputs={"dataset": dataset, "controller": controller},
        outputs={"search_result": search_result, "weights": weights},
    )


def _watcher(step: Step) -> OnChild:
    """Tells progress about each child, with the time that is left at the present pace."""
    children: dict[str, list[Child]] = {"method": [], "control": []}
    start = time.perf_counter()
    budget, figure = step.config.search.budget, OBJECTIVES[step.config.search.objective]
    of = budget.children
    arms = 2 if step.config.search.control else 1

    def on_child(arm: str, child: Child) -> None:
        children[arm].append(child)
        best = best_child(children[arm])
        done = sum(len(one) for one in children.values())
        left = None
        if of is not None:
            left = (time.perf_counter() - start) / done * max(0, arms * of - done)
        step.progress(
            "child",
            arm=arm,
            number=child.number,
            of=of,
            valid_accuracy=child.valid_accuracy,
            score=child.score,
            figure=figure,
            best=None if best is None else best.score,
            seconds_left=left,
        )

    return on_child


def _track(step: Step, task: SearchContext, result: SearchResult) -> None:
    arms = [arm for arm in (result.arm, result.control) if arm is not None]
    for arm, name in zip(arms, ("method", "control"), strict=False):
        step.tracked.table([_row(task, child) for child in arm.children], f"{name}_children.json")
    if result.verdict is not None:
        step.tracked.tags({"nas.verdict": result.verdict["outcome"]})
        step.parent.tags({"nas.verdict": result.verdict["outcome"]})
    for rank, child in enumerate(_top(result.arm)):
        tracked = step.tracker.run(
            f"{step.run_key}.search.child-{child.number}",
            name=f"child {child.number} (rank {rank + 1})",
            parent=f"{step.run_key}.search",
        )
        tracked.params({"architecture": task.space.describe(child.genotype), "rank": rank + 1})
        if child.scores is not None:
            named = child.scores.named(result.objective)
            tracked.metrics({k: float(v) for k, v in named.items() if v is not None})
        tracked.tags(lineage.of_genotype(child.genotype))
        tracked.end()


def _top(arm: Arm) -> list[Child]:
    done = [child for child in arm.children if child.scores is not None]
    return sorted(done, key=lambda child: (-(child.score or 0), child.number))[:_TOP]


def _row(task: SearchContext, child: Child) -> dict[str, Any]:
    scores = {} if child.scores is None else child.scores.named(task.search.objective)
    return {
        "number": child.number,
        "architecture": task.space.describe(child.genotype),
        "genotype": child.genotype.short_hash,
        "valid_accuracy": None,
        "train_accuracy": None,
        "num_params": None,
        **scores,
        "num_steps": child.num_steps,
        "duration_s": child.duration_s,
        "status": child.status,
        "failure": child.failure,
    }
