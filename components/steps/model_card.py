"""The model card of a run: what the model is, what was measured of it, and its limits.

Markdown, made from the results of the run alone. The whole card is exported next to the model and
logged to the run; the description of the model version in the registry is the card, cut to the
limit of the server.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from components.steps.registration import Promotion
from components.steps.run_results import RunResults
from nascore.data.prepared import DatasetInfo
from nascore.figures import formatting
from nascore.redaction import redact

MAX_DESCRIPTION = 5000
"""Characters of the description of a model version that MLflow's SQL stores can hold."""
_MAX_CLASSES = 100
_FEW_IMAGES = 1000
_MEANS = {
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "macro_auroc": "macro AUROC",
    "calibration_error": "expected calibration error",
}


def model_card(results: RunResults, promotion: Promotion, summary: Mapping[str, Any]) -> str:
    """Return the model card.

    Args:
        results: of the steps before the promotion.
        promotion: registered version and decision.
        summary: content of `result.json`.
    """
    registered = promotion.registered
    sections = {
        "Task": _task(results),
        "How to load": _load(results, promotion),
        "Results": _accuracy(results, summary),
        "Latency": _latency(results),
        "Search": _search(results, summary),
        "Promotion": [f"Alias `{promotion.decision.alias}`: {promotion.decision.reason}."],
        "Limits": _limits(results, summary),
        "Data": _data(results.splits.info),
        "Architecture": _architecture(results),
        "Training": _training(results),
        "Results of each class": _classes(summary),
    }
    lines = [f"# {registered.name}, version {registered.version}"]
    for title, content in sections.items():
        if content:
            lines += ["", f"## {title}", "", *content]
    return redact("\n".join(lines)) + "\n"


def description(card: str, run_id: str) -> str:
    """Return the card as the description of a model version, cut at the end of a line.

    Args:
        card: from `model_card`.
        run_id: MLflow run whose artifacts contain the whole card.
    """
    if len(card) <= MAX_DESCRIPTION:
        return card
    pointer = f"\n\nThe rest of this card: artifact `MODEL_CARD.md` of run {run_id}.\n"
    start, _, _ = card[: MAX_DESCRIPTION - len(pointer)].rpartition("\n")
    return start + pointer


# --- sections ---------------------------------------------------------------------------------


def _task(results: RunResults) -> list[str]:
    info = results.splits.info
    shape = f"{info.channels} x {info.size} x {info.size}"
    if info.class_splits is not None:
        ways = results.final.shape.num_classes
        text = f"Few-shot classification of images ({shape}) into {ways} classes of a support set."
    else:
        text = f"Classification of images ({shape}) into {len(info.classes)} classes."
    return [text]


def _load(results: RunResults, promotion: Promotion) -> list[str]:
    info, uri = results.splits.info, promotion.registered.uri
    if info.class_splits is not None:
        code = [
            "import mlflow",
            f'model = mlflow.pyfunc.load_model("{uri}")',
            'task = {"support_x": ..., "support_y": ..., "query_x": ...}  # float32 pixels 0..255',
            'labels = model.predict(task)["labels"]',
        ]
    else:
        code = [
            "import mlflow, torch",
            f'model = mlflow.pytorch.load_model("{uri}")',
            f"pixels = torch.zeros(1, {info.channels}, {info.size}, {info.size})  # float, 0..255",
            "logits = model(pixels)  # in the order of the classes; of several outputs the first",
        ]
    return [
        "```python",
        *code,
        "```",
        "",
        "The model contains the normalisation of its training data. From exported files: "
        "`components.export.weights.read_network(folder)`, for normalised images.",
    ]


def _accuracy(results: RunResults, summary: Mapping[str, Any]) -> list[str]:
    final, info = results.final, results.splits.info
    accuracy = formatting.percent(final.test_accuracy)
    rows = [("test accuracy", f"{accuracy}{_interval(final.test_accuracy, info)}")]
    if summary["objective"] != "accuracy":
        rows.append((f"test {summary['objective']} (objective)", f"{summary['test_score']:.4f}"))
    rows += [
        (name, f"{summary[key]:.4f}")
        for key, name in _MEANS.items()
        if summary.get(key) is not None and key != summary["objective"]
    ]
    rows.append(("validation accuracy", formatting.percent(final.valid_accuracy)))
    return _table(("metric", "value"), rows)


def _interval(accuracy: float, info: DatasetInfo) -> str:
    if info.class_splits is not None:  # a mean over tasks, and not a fraction of the images
        return ""
    low, high = formatting.wilson_interval(accuracy, info.num_test)
    interval = f"{formatting.percent(low)} to {formatting.percent(high)}"
    return f" (95% interval {interval}, {info.num_test} images)"


def _latency(results: RunResults) -> list[str]:
    measured = results.measured
    return [
        f"Median {formatting.milliseconds(measured.p50_ms)}, 95th percentile "
        f"{formatting.milliseconds(measured.p95_ms)} for a batch of {measured.batch_size} on "
        f"{measured.device} ({measured.threads} CPU threads, torch {measured.torch_version}): "
        f"{measured.runs} runs after {measured.warmup_runs} warm-up runs, {measured.date}."
    ]


def _search(results: RunResults, summary: Mapping[str, Any]) -> list[str]:
    search = results.search
    failed = f", {summary['num_failed']} of them failed" if summary["num_failed"] else ""
    lines = [
        f"Method `{search.method}`, seed {search.seed}: {summary['num_children']} children{failed} "
        f"in {formatting.duration(search.arm.seconds)}, its control not included."
    ]
    if search.verdict is not None:
        lines += ["", f"Verdict: {search.verdict['outcome']}. {search.verdict['statement']}"]
    else:
        lines += ["", "Not compared with random search: the run had no control."]
    costs = ((name, formatting.duration(seconds)) for name, seconds in summary["seconds"].items())
    return [*lines, "", *_table(("step", "time"), costs)]


def _limits(results: RunResults, summary: Mapping[str, Any]) -> list[str]:
    info = results.splits.info
    shape = f"{info.channels} x {info.size} x {info.size}"
    limits = [
        f"Tested only on images ({shape}) of the same source as the training images.",
        "Accuracy and latency are those of one training and one measurement.",
    ]
    if info.num_test < _FEW_IMAGES:
        limits.append(f"The test split has only {info.num_test} images.")
    recalls = {
        name: row["recall"]
        for name, row in (summary.get("per_class") or {}).items()
        if row["recall"] is not None
    }
    if recalls:
        worst = min(recalls, key=lambda name: recalls[name])
        limits.append(
            f"The class with the lowest recall is {_cell(worst)}: "
            f"{formatting.percent(recalls[worst])}."
        )
    limits += [f"Data: {_cell(warning['message'])}" for warning in info.warnings]
    return [f"- {limit}" for limit in limits]


def _data(info: DatasetInfo) -> list[str]:
    counts = info.class_counts
    header = ("class", *(f"{split} images" for split in counts), "share")
    total = sum(sum(numbers) for numbers in counts.values())
    rows = []
    for label, name in enumerate(info.classes[:_MAX_CLASSES]):
        numbers = [counts[split][label] for split in counts]
        rows.append((name, *map(str, numbers), formatting.percent(sum(numbers) / total, 1)))
    lines = [
        f"Source `{info.source}`: {info.num_train} training, {info.num_valid} validation and "
        f"{info.num_test} test images. SHA-256 of the data `{info.data_sha256}`, of the splits "
        f"`{info.split_sha256}`.",
        "",
        *_table(header, rows),
    ]
    return lines + _rest(len(info.classes))


def _architecture(results: RunResults) -> list[str]:
    final, genotype = results.final, results.final.genotype
    return [
        f"`{results.space.describe(genotype)}` of the search space `{genotype.space}`: "
        f"{final.num_params:,} parameters, {final.macs:,} multiply-adds for one image. "
        "`genotype.json` contains the architecture, `report.html` its drawing.",
    ]


def _training(results: RunResults) -> list[str]:
    config, final = results.config, results.final
    settings = config.train.model_dump(mode="json") | config.training.model_dump(mode="json")
    rows = ((name, str(value)) for name, value in settings.items() if value is not None)
    return [
        f"{final.num_steps} weight updates in {formatting.duration(final.duration_s)}; accuracy on "
        f"the training images {formatting.percent(final.train_accuracy)}.",
        "",
        *_table(("setting", "value"), rows),
    ]


def _classes(summary: Mapping[str, Any]) -> list[str]:
    per_class = summary.get("per_class")
    if not per_class:
        return []
    ranked = sorted(
        per_class.items(), key=lambda item: (item[1]["recall"] is None, item[1]["recall"])
    )
    rows = [
        (
            name,
            *(formatting.percent(row[figure]) for figure in ("precision", "recall", "f1")),
            str(row["support"]),
        )
        for name, row in ranked[:_MAX_CLASSES]
    ]
    header = ("class", "precision", "recall", "F1", "test images")
    return [*_table(header, rows), *_rest(len(per_class))]


# --- Markdown ---------------------------------------------------------------------------------


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines]


def _cell(text: str) -> str:
    """Return text of the user, such as the name of a class, without effect on the Markdown."""
    escaped = "".join(
        f"\\{character}" if character in r"\|`*_[]<>" else character for character in text
    )
    return " ".join(escaped.split())


def _rest(num_classes: int) -> list[str]:
    if num_classes <= _MAX_CLASSES:
        return []
    return ["", f"{_MAX_CLASSES} of {num_classes} classes; `report.html` has more."]
