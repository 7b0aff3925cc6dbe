"""Step 6 of a search: train standard networks at its cost, and compare them with the found one."""

from pathlib import Path

from components.steps.context_builder import StepInputs, load_context
from components.steps.device_processes import device_processes
from components.steps.run_results import REFERENCES, SHIPPED, reference_metrics
from components.steps.runtime import Step, execute, read_config
from components.steps.state import fingerprint, read_json, write_json
from components.steps.transfer import with_transfer
from nascore.data.prepared import DatasetInfo
from nascore.reference.plan import make_plan, without_comparison
from nascore.results import SearchResult
from nascore.training.final_checkpoint import remove_final_checkpoints

VERSION = 1


def run(
    *, run_key: str, dataset: Path, search_result: Path, model: Path, references: Path
) -> dict[str, float]:
    """Write `references.json`: the networks, their measurements, and which one to ship.

    Networks that were trained by an earlier try of the step are not trained again.
    """
    config = read_config(dataset)
    inputs = {"dataset": dataset, "search_result": search_result, "model": model}

    def work(step: Step) -> dict[str, float]:
        search = SearchResult.from_dict(read_json(search_result))
        plan = make_plan(
            config.reference,
            share=config.reference_share,
            cost_s=search.arm.seconds + read_json(model / "model.json")["duration_s"],
            has_fixed_classes=DatasetInfo.load(dataset).class_splits is None,
        )
        if plan.compares:
            # torchvision, a second that a step without comparison need not wait for
            from components.steps.reference_networks import ReferenceNetworks

            own = StepInputs.of(step, dataset=dataset, controller=step.state)
            context = load_context(step, own)
            context = with_transfer(
                context,
                config,
                dataset,
                state=step.state,
                say=lambda text: step.progress("note", text=text),
            )
            kept = step.state / fingerprint(config, inputs)[:16]
            networks = ReferenceNetworks(step, context, search, plan, kept)
            with device_processes(own, "final"):
                found = networks.compared_with(model, references / SHIPPED)
            remove_final_checkpoints(step.state)
        else:
            step.progress("note", text=f"no standard network is compared: {plan.reason}")
            found = without_comparison(plan.reason)
        write_json(references / REFERENCES, {"version": VERSION, **found, "step": step.timing()})
        step.tracked.artifact(references / REFERENCES)
        return reference_metrics(found)

    return execute(
        "train_references",
        work,
        run_key=run_key,
        config=config,
        inputs=inputs,
        outputs={"references": references},
    )
