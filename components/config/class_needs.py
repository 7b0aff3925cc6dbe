"""Requirements of objective and class balance on the classes of the data."""

from components.config.schema import Config
from nascore.config import BalanceConfig
from nascore.data.findings import join_first
from nascore.data.prepared import DatasetInfo
from nascore.errors import Problem


def unfit_for_classes(settings: Config, info: DatasetInfo) -> list[Problem]:
    """Return settings that the classes of the data do not allow."""
    problems: list[Problem] = []
    if info.class_splits is not None:
        return problems  # few-shot methods, which refuse these settings
    present = {
        split: [name for name, count in zip(info.classes, counts, strict=True) if count]
        for split, counts in info.class_counts.items()
    }
    objective = settings.search.objective
    if objective == "auroc":
        problems += [
            Problem(
                "search.objective",
                objective,
                f"ranks images of different classes, but the {split} split has images of only "
                f"{join_first(present[split])}; add images of another class, or set it to accuracy",
            )
            for split in ("valid", "test")
            if len(present[split]) < 2
        ]
    training = settings.training.for_objective(objective)
    missing = [name for name in info.classes if name not in present["train"]]
    for name in BalanceConfig.model_fields:
        value = getattr(training, name)
        if value == "balanced" and missing:
            message = (
                f"needs training images of every class; {join_first(missing)} has none: add some, "
                "remove the class, or set it to "
                + ("none" if name == "class_weights" else "uniform")
            )
            problems.append(Problem(f"training.{name}", value, message))
    return problems
