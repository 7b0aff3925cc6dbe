"""Step 3: the search. Every child is saved at once; a step that was killed resumes from them."""

import time
from pathlib import Path
from typing import Any

from components.steps.child_runs import ChildRuns
from components.steps.compiled import workers_of
from components.steps.context_builder import StepCallbacks, StepInputs, load_context
from components.steps.device_processes import device_processes
from components.steps.runtime import Step, execute, read_config
from components.steps.state import read_json, write_json
from components.steps.workers import worker_processes
from components.tracking.run_description import NOTE, step_note
from nascore.config import OBJECTIVES
from nascore.context import SearchContext
from nascore.methods.registry import METHODS
from nascore.results import Child, SearchResult, best_child

RESULT = "search_result.json"  # in the state of the step; also written when the step was stopped


def run(
    *,
    run_key: str,
    dataset: Path,
    controller: Path,
    search_result: Path,
    weights: Path,
) -> dict[str, float]:
    """Write the search result as JSON (`nascore.results.SearchResult`).

    Args:
        run_key: key of the pipeline's MLflow run; names the study.
        dataset: folder of the prepared data.
        controller: folder that the step before has written.
        search_result: file to write.
        weights: folder for the weights from which the final training starts; stays empty where it
            starts from scratch.

    Returns:
        Scalars of the best child and of the cost.
    """
    config = read_config(dataset)
    more_workers = workers_of(dataset, 0) - 1  # others may work on the study in other pods

    def work(step: Step) -> dict[str, float]:
        inputs = StepInputs.of(step, dataset=dataset, controller=controller, weights=weights)
        callbacks = _SearchCallbacks(step)
        context = load_context(step, inputs, callbacks)
        pretraining = read_json(controller / "step.json")
        weights.mkdir(parents=True, exist_ok=True)
        with (
            step.busy("training"),
            worker_processes(inputs, more_workers, callbacks),
            device_processes(inputs, "children"),
        ):
            result = METHODS[config.method].load().search(context)
        _track(step, context, result, callbacks.child_runs)
        outcome = {**result.to_dict(), "step": step.timing(), "pretraining": pretraining}
        write_json(step.state / RESULT, outcome)
        write_json(search_result, outcome)
        return {
            "valid_accuracy": result.valid_accuracy,
            f"valid_{result.objective}": result.score,
            "num_children": float(sum(not child.is_rejected for child in result.arm.children)),
            "seconds_with_pretraining": result.arm.seconds,
        }

    return execute(
        "search",
        work,
        run_key=run_key,
        config=config,
        inputs={"dataset": dataset, "controller": controller},
        outputs={"search_result": search_result, "weights": weights},
    )


class _SearchCallbacks(StepCallbacks):
    """Also reports each child, with an estimate of the remaining time."""

    def __init__(self, step: Step) -> None:
        super().__init__(step)
        self.child_runs = ChildRuns(step)
        self._children: dict[str, list[Child]] = {"method": [], "control": []}
        self._start = time.perf_counter()

    def on_child(self, arm: str, child: Child) -> None:
        search = self.step.config.search
        self.child_runs.on_child(arm, child)
        self._children[arm].append(child)
        best = best_child(self._children[arm])
        done = sum(not one.is_rejected for arm_s in self._children.values() for one in arm_s)
        rejected = sum(one.is_rejected for one in self._children[arm])
        of = search.budget.children
        left = None
        if of is not None and done > 0:
            total = (2 if search.control else 1) * of
            left = (time.perf_counter() - self._start) / done * max(0, total - done)
        self.step.progress(
            "child",
            arm=arm,
            number=child.number if child.is_rejected else child.number - rejected,
            of=None if child.is_rejected else of,
            status=child.status,
            valid_accuracy=child.valid_accuracy,
            score=child.score,
            figure=OBJECTIVES[search.objective],
            best=None if best is None else best.score,
            seconds_left=left,
        )


def _track(step: Step, context: SearchContext, result: SearchResult, child_runs: ChildRuns) -> None:
    arms = [arm for arm in (result.arm, result.control) if arm is not None]
    for arm, name in zip(arms, ("method", "control"), strict=False):
        step.tracked.table(
            [_row(context, child) for child in arm.children], f"{name}_children.json"
        )
    if result.verdict is not None:
        statement = f"{step_note(step.name, step.config)}\n\n{result.verdict['statement']}"
        step.tracked.tags({"nas.verdict": result.verdict["outcome"], NOTE: statement})
        step.parent.tags({"nas.verdict": result.verdict["outcome"]})
    child_runs.finish(result)


def _row(context: SearchContext, child: Child) -> dict[str, Any]:
    scores = {} if child.scores is None else child.scores.named(context.search.objective)
    return {
        "number": child.number,
        "architecture": context.space.describe(child.genotype),
        "genotype": child.genotype.short_hash,
        "valid_accuracy": None,
        "train_accuracy": None,
        "num_params": None,
        **scores,
        **_spent(child),
        "status": child.status,
        "failure": child.failure,
    }


def _spent(child: Child) -> dict[str, float | None]:
    return {"num_steps": child.num_steps, "duration_s": child.duration_s}
