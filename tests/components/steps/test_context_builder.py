"""The context of a method, made from the configuration of a run."""

from pathlib import Path

import pytest

from components.config.schema import parse
from components.steps.context_builder import StepInputs, build_context
from nascore.data.prepared import prepare


@pytest.mark.parametrize(("objective", "weighted"), [("accuracy", False), ("macro_f1", True)])
def test_rare_classes_weigh_more_in_every_training_where_the_objective_asks_for_it(
    objective: str, weighted: bool, tmp_path: Path
) -> None:
    config = parse(
        {"method": "random", "data": {"max_train": 200}, "search": {"objective": objective}}
    )
    prepare(config.data, 0, tmp_path / "data")
    inputs = StepInputs(
        config=config,
        dataset=tmp_path / "data",
        controller=tmp_path,
        state=tmp_path,
        run_key="search",
    )
    context = build_context(inputs)
    assert (context.splits.train.class_weights_K is not None) == weighted
    chosen = "balanced" if weighted else "auto"
    assert context.training.class_weights == context.final.class_weights == chosen
