"""Sections of a model card as lines of Markdown, each from the content of `result.json`."""

from collections.abc import Mapping
from typing import Any

from components.progress import COMMAND, steps_s
from components.steps.markdown import cell, table
from nascore.figures import formatting
from nascore.latency.benchmark import LatencyResult
from nascore.redaction import redact

Result = Mapping[str, Any]

_MAX_CLASSES = 100
_MAX_LINES = 60
_FEW_IMAGES = 1000
_MEANS = {
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "macro_auroc": "macro AUROC",
    "calibration_error": "expected calibration error",
}


def address(result: Result, name: str) -> str | None:
    """Return the address of the page of `run` or `model`; None where the store has no pages."""
    found: str | None = (result.get("links") or {}).get(name)
    return found


def task(result: Result) -> list[str]:
    """Return what the model does."""
    data = result["data"]
    if data["class_splits"] is not None:
        ways = f"{data['num_outputs']} classes of a support set"
        return [f"Few-shot classification of images ({_shape(data)}) into {ways}."]
    count = len(data["classes"])
    return [f"Classification of images ({_shape(data)}) into {count} classes."]


def load(result: Result) -> list[str]:
    """Return code that loads the model and predicts; a test runs it."""
    data, uri = result["data"], result["model_uri"]
    channels, size = data["channels"], data["size"]
    store = redact(result["tracking_uri"])
    use = f'mlflow.set_tracking_uri("{store}")'
    if "***" in store:  # the address contains an account
        use = "# MLFLOW_TRACKING_URI names the server, with the account"
    if data["class_splits"] is not None:
        ways = data["num_outputs"]
        code = [
            "import mlflow",
            "import numpy as np",
            "",
            use,
            f'model = mlflow.pyfunc.load_model("{uri}")',
            "task = {  # float32 pixels 0..255; any number of images of each class",
            f'    "support_x": np.zeros(({ways}, {channels}, {size}, {size}), np.float32),',
            f'    "support_y": np.arange({ways}),',
            f'    "query_x": np.zeros((2, {channels}, {size}, {size}), np.float32),',
            "}",
            'labels = model.predict(task)["labels"]',
        ]
    else:
        code = [
            "import mlflow",
            "import torch",
            "",
            use,
            f'model = mlflow.pytorch.load_model("{uri}")',
            f"pixels = torch.zeros(1, {channels}, {size}, {size})  # float, 0..255",
            "answer = model(pixels)",
            "logits = answer[0] if isinstance(answer, tuple) else answer",
            f'classes = mlflow.models.get_model_info("{uri}").metadata["classes"]',
            "predicted = classes[int(logits.argmax(1))]",
        ]
    return [
        "```python",
        *code,
        "```",
        "",
        "The model contains the normalisation of its training data. From exported files: "
        "`components.export.weights.read_network(folder)`, for normalised images.",
    ]


def accuracy(result: Result) -> list[str]:
    """Return the metrics on the test and the validation split."""
    accuracy = formatting.percent(result["test_accuracy"])
    rows = [("test accuracy", f"{accuracy}{_interval(result)}")]
    if result["objective"] != "accuracy":
        rows.append((f"test {result['objective']} (objective)", f"{result['test_score']:.4f}"))
    rows += [
        (name, f"{result[key]:.4f}")
        for key, name in _MEANS.items()
        if result.get(key) is not None and key != result["objective"]
    ]
    rows.append(("validation accuracy", formatting.percent(result["valid_accuracy"])))
    return table(("metric", "value"), rows)


def _interval(result: Result) -> str:
    data = result["data"]
    if data["class_splits"] is not None:  # a mean over tasks, and not a fraction of the images
        return ""
    interval = _bounds(result["test_accuracy"], data["num_test"])
    return f" (95% interval {interval}, {data['num_test']} images)"


def _bounds(fraction: float, num: int) -> str:
    low, high = formatting.wilson_interval(fraction, num)
    return f"{formatting.percent(low)} to {formatting.percent(high)}"


def latency(latency: Mapping[str, Any]) -> list[str]:
    """Return the latency with the protocol of its measurement.

    Args:
        latency: content of `latency.json`.
    """
    measured = LatencyResult.from_dict(dict(latency))
    threads = "1 CPU thread" if measured.threads == 1 else f"{measured.threads} CPU threads"
    return [
        f"Median {formatting.milliseconds(measured.p50_ms)}, 95th percentile "
        f"{formatting.milliseconds(measured.p95_ms)} for a batch of {measured.batch_size} on "
        f"{measured.device} ({threads}, torch {measured.torch_version}): "
        f"{measured.runs} runs after {measured.warmup_runs} warm-up runs, {measured.date}."
    ]


def search(result: Result) -> list[str]:
    """Return what the search cost, and the verdict against random search and standard networks."""
    searched, verdict = result["search"], result["verdict"]
    failed = f", {result['num_failed']} of them failed" if result["num_failed"] else ""
    version = searched.get("reused_version")  # absent in results of earlier versions
    reused = f"The architecture of version {version} was reused. Its search: method"
    num_children = f"{result['num_children']} children{failed}"
    lines = [
        f"{reused if version else 'Method'} `{searched['method']}`, seed {result['seed']}: "
        f"{num_children} in {formatting.duration(searched['seconds'])}, its control not included.",
        "",
    ]
    if verdict is not None:
        lines.append(f"Verdict: {verdict['outcome']}. {verdict['statement']}")
    else:
        lines.append("Not compared with random search: the run had no control.")
    lines += ["", _standard(result)]
    seconds = {**result["seconds"], "all steps": steps_s(result["seconds"])}
    costs = ((name, formatting.duration(seconds[name])) for name in seconds if name not in COMMAND)
    return [*lines, "", *table(("step", "time"), costs)]


def _standard(result: Result) -> str:
    standard = result["standard"]
    if standard is None:
        return "Not compared with a standard network: the search space contains none."
    if standard["is_chosen"]:
        return "The search chose the standard network of its space: it found no better one."
    return (
        "The standard network of the search space, trained in the same search: validation score "
        f"{standard['valid_score']:.4f}, against {result['search_valid_score']:.4f} of the one "
        "that the search chose."
    )


def promotion(result: Result) -> list[str]:
    """Return the alias of the version, and why it has it."""
    decision = result["promotion"]
    return [f"Alias `{decision['alias']}`: {decision['reason']}."]


def limits(result: Result) -> list[str]:
    """Return what the measurements do not cover."""
    data = result["data"]
    limits = [
        f"Tested only on images ({_shape(data)}) of the same source as the training images.",
        "Accuracy and latency are those of one training and one measurement.",
    ]
    if data["num_test"] < _FEW_IMAGES:
        limits.append(f"The test split has only {data['num_test']} images.")
    recalls = {
        name: row["recall"]
        for name, row in (result.get("per_class") or {}).items()
        if row["recall"] is not None
    }
    if recalls:
        worst = min(recalls, key=lambda name: recalls[name])
        limits.append(
            f"The class with the lowest recall is {cell(worst)}: "
            f"{formatting.percent(recalls[worst])}."
        )
    limits += [f"Data: {cell(warning['message'])}" for warning in result["data_warnings"]]
    return [f"- {limit}" for limit in limits]


def links(result: Result) -> list[str]:
    """Return where run, report, version and files are."""
    run, model = address(result, "run"), address(result, "model")
    links = [f"MLflow run: {f'<{run}>' if run else result['tracking_run_id']}"]
    if run:
        links.append(f"Report: <{run}/artifacts/report/report.html>")
    if model:
        links.append(f"Model version: <{model}>")
    if result.get("exported_to"):
        links.append(f"Exported files: `{result['exported_to']}`")
    return [f"- {link}" for link in links]


def model_input(result: Result) -> list[str]:
    """Return the input of the model, and its preprocessing."""
    data = result["data"]
    mean, std = (", ".join(f"{value:.4g}" for value in data[name]) for name in ("mean", "std"))
    return [
        f"float32 pixels of 0..255, N x {_shape(data)} (channels, height, width). The model itself "
        f"normalises them: (pixels / 255 - mean) / std, with mean {mean} and std {std}."
    ]


def data(result: Result) -> list[str]:
    """Return source, hashes, sizes and classes of the data."""
    data = result["data"]
    counts, classes = data["class_counts"], data["classes"]
    header = ("class", *(f"{split} images" for split in counts), "share")
    total = sum(sum(numbers) for numbers in counts.values())
    rows = []
    for label, name in enumerate(classes[:_MAX_CLASSES]):
        numbers = [counts[split][label] for split in counts]
        rows.append((name, *map(str, numbers), formatting.percent(sum(numbers) / total, 1)))
    return [
        f"Source `{data['source']}`: {data['num_train']} training, {data['num_valid']} validation "
        f"and {data['num_test']} test images. SHA-256 of the data `{data['data_sha256']}`, of the "
        f"splits `{data['split_sha256']}`.",
        "",
        *table(header, rows),
        *_rest(len(classes)),
    ]


def architecture(result: Result) -> list[str]:
    """Return the architecture, with a drawing in text."""
    architecture, drawing = result["architecture"], result["architecture"]["drawing"]
    cut = [f"... {len(drawing) - _MAX_LINES} more lines"] if len(drawing) > _MAX_LINES else []
    space = architecture.get("space")
    where = f" of the search space `{space}`" if space else ""
    return [
        f"`{architecture['text']}`{where}: "
        f"{result['num_params']:,} parameters, {result['macs']:,} multiply-adds for one image.",
        "",
        "```text",
        *drawing[:_MAX_LINES],
        *cut,
        "```",
        "",
        "Each line is an operation with the numbers of its inputs; `report.html` has a picture.",
    ]


def training(result: Result) -> list[str]:
    """Return length and settings of the training."""
    training = result["training"]
    settings = ((name, str(v)) for name, v in training["settings"].items() if v is not None)
    return [
        f"{training['num_steps']} weight updates in {formatting.duration(training['seconds'])}; "
        f"accuracy on the training images {formatting.percent(training['train_accuracy'])}.",
        "",
        *table(("setting", "value"), settings),
    ]


def classes(result: Result) -> list[str]:
    """Return the metrics of each class, the lowest recall first."""
    per_class = result.get("per_class")
    if not per_class:
        return []
    ranked = sorted(
        per_class.items(), key=lambda item: (item[1]["recall"] is None, item[1]["recall"])
    )
    rows = [
        (
            name,
            formatting.percent(row["precision"]),
            formatting.percent(row["recall"]),
            _bounds(row["recall"], row["support"]) if row["support"] else formatting.MISSING,
            formatting.percent(row["f1"]),
            str(row["support"]),
        )
        for name, row in ranked[:_MAX_CLASSES]
    ]
    header = ("class", "precision", "recall", "95% interval", "F1", "test images")
    return [*table(header, rows), *_rest(len(per_class))]


def _shape(data: Mapping[str, Any]) -> str:
    return f"{data['channels']} x {data['size']} x {data['size']}"


def _rest(num_classes: int) -> list[str]:
    if num_classes <= _MAX_CLASSES:
        return []
    return ["", f"{_MAX_CLASSES} of {num_classes} classes; `report.html` has more."]
