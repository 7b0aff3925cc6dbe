"""The networks that are compared with the found one: the control's, and standard networks."""

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from components.steps.context_builder import StepCallbacks, examples_of
from components.steps.run_results import LATENCY
from components.steps.runtime import Step
from components.steps.shipping_limits import over_limit
from components.steps.state import write_json
from components.steps.trainings import train_together
from nascore.context import SearchContext
from nascore.errors import ChildFailedError
from nascore.reference.comparison import Kind, Trained, compare
from nascore.reference.names import STANDARD
from nascore.reference.networks import default_names
from nascore.reference.plan import CONTROL, FOUND, MIN_EPOCHS, Plan, without_comparison
from nascore.results import SearchResult
from nascore.training.final_model import FinalModel
from nascore.training.network_kinds import spec_of


class _Callbacks(StepCallbacks):
    """Logs the metrics of a network under its name, and reports how much of it is trained.

    Args:
        seconds: of the training; None for one of as many epochs as the final training.
    """

    def __init__(self, step: Step, name: str, seconds: float | None) -> None:
        super().__init__(step)
        self._name, self._seconds, self._start = name, seconds, time.monotonic()

    def on_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Log metrics; those of the final training begin with `final/`."""
        named = {
            f"{self._name}/{key.removeprefix('final/')}": value for key, value in metrics.items()
        }
        super().on_metrics(named, step)
        share = (step + 1) / self.step.config.train.epochs
        if self._seconds is not None:
            share = (time.monotonic() - self._start) / self._seconds
        share = round(min(1.0, share), 3)
        self.step.progress("share", network=self._name, arm="reference", share=share)


class ReferenceNetworks:
    """The networks that are compared with the found one.

    Attributes:
        left_out: name and reason of each network that was not trained to its end.
    """

    def __init__(
        self, step: Step, context: SearchContext, search: SearchResult, plan: Plan, kept: Path
    ) -> None:
        self._step, self._context, self._search = step, context, search
        self._plan, self._kept = plan, kept
        self.left_out: list[dict[str, str]] = []

    def compared_with(self, model: Path, shipped: Path) -> dict[str, Any]:
        """Train the networks and return the comparison with the found one.

        Args:
            model: folder of the found network.
            shipped: folder to write if another one is to be registered: its files, and
                `latency.json`.
        """
        step, context = self._step, self._context
        found = Trained(FOUND, "found", FinalModel.load(model, context.space))
        trained = [*self._control(found), *self._references()]

        def examples() -> Any:
            return examples_of(context.splits, step.config)

        if trained:
            with step.busy("profiling"):
                compared, latencies = compare(
                    context,
                    found,
                    trained,
                    examples=examples,
                    over_limit=lambda row: over_limit(step.config, row),
                )
            name = compared["recommendation"]["ship"]
            if name != FOUND and step.config.registry.ship == "recommended":
                shutil.copytree(self._kept / name, shipped, dirs_exist_ok=True)
                write_json(shipped / LATENCY, {**latencies[name], "step": step.timing()})
        else:
            reasons = "; ".join(f"{one['name']}: {one['reason']}" for one in self.left_out)
            compared = without_comparison(reasons)
        return compared | {"seconds": self._plan.seconds, "left_out": self.left_out}

    def _control(self, found: Trained) -> list[Trained]:
        """Return the best architecture of the random control, trained as the found one was.

        Networks of other kinds start from the weights of their search, which the control has not.
        """
        best = None if self._search.control is None else self._search.control.best
        spec = spec_of(found.final.network)
        is_static = spec.get("network", spec)["kind"] == "static"  # averaged over a flip or not
        if best is None or best.genotype == self._search.genotype or not is_static:
            return []
        chosen = replace(self._search, genotype=best.genotype)
        return self._trained(
            CONTROL,
            "control",
            lambda context: train_together(context, "control", result=chosen.to_dict()),
        )

    def _references(self) -> list[Trained]:
        names, seconds = self._plan.names, self._plan.seconds
        trained = []
        for name in default_names(self._context.shape.size) if names is None else names:
            if names is None and not self._is_affordable(name):
                continue

            def train(context: SearchContext, name: str = name) -> FinalModel:
                final: FinalModel = train_together(context, "reference", name=name, seconds=seconds)
                return final

            kind: Kind = "standard" if name == STANDARD else "torchvision"
            trained += self._trained(name, kind, train)
        return trained

    def _is_affordable(self, name: str) -> bool:
        """Return whether a default network completes enough epochs in its time."""
        if (self._kept / name).exists():
            return True
        try:
            with self._step.busy("training"):
                seconds = self._plan.seconds
                epochs: float = train_together(
                    self._context, "reference epochs", name=name, seconds=seconds
                )
        except ChildFailedError as error:
            self._leave_out(name, str(error))
            return False
        if epochs < MIN_EPOCHS:
            reason = (
                f"it would complete {epochs:.1f} epochs in {self._plan.seconds:.0f} s, fewer than "
                f"{MIN_EPOCHS}; `reference` trains it anyway"
            )
            self._leave_out(name, reason)
        return epochs >= MIN_EPOCHS

    def _trained(
        self, name: str, kind: Kind, train: Callable[[SearchContext], FinalModel]
    ) -> list[Trained]:
        """Return the trained network, from an earlier try if there is one; empty if it failed."""
        folder, context = self._kept / name, self._context
        if not (folder / "model.json").exists():
            seconds = None if kind == "control" else self._plan.seconds
            callbacks = _Callbacks(self._step, name, seconds)
            try:
                with self._step.busy("training"):
                    final = train(replace(context, callbacks=callbacks))
            except ChildFailedError as error:
                self._leave_out(name, str(error))
                return []
            final.save(folder)
        return [Trained(name, kind, FinalModel.load(folder, context.space))]

    def _leave_out(self, name: str, reason: str) -> None:
        self.left_out.append({"name": name, "reason": reason})
        self._step.progress("note", text=f"{name} is left out of the comparison: {reason}")
