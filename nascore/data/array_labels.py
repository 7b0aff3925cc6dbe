"""Labels of arrays: whole numbers, text, bytes, or one column for each class."""

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nascore.config import DataConfig
from nascore.data.class_splits import SPLITS, ClassSplits
from nascore.data.findings import Findings, and_others, finding, join_first
from nascore.errors import Problem

_ARRAYS = "arrays"


@dataclass(frozen=True, slots=True)
class Labels:
    """Labels of all parts, concatenated.

    Attributes:
        numbers: int64 (N,), places in `classes`.
        classes: names, in the order of the labels' values.
        counts: images of each part.
    """

    numbers: NDArray[np.int64]
    classes: list[str]
    counts: dict[str, int]

    def splits(self) -> ClassSplits:
        """Return the classes of each part, where each part has its own."""
        ends = np.cumsum(list(self.counts.values()))[:-1]
        parts = dict(zip(self.counts, np.split(self.numbers, ends), strict=True))
        return ClassSplits(*(tuple(np.unique(parts[split]).tolist()) for split in SPLITS))


def check_labels(
    labels: dict[str, NDArray[Any]],
    sizes: dict[str, int],
    config: DataConfig,
    findings: Findings,
    *,
    is_complete: bool,
) -> dict[str, NDArray[Any]] | None:
    """Return labels (N,) of each part as whole numbers or text; None where there is a problem.

    Args:
        sizes: number of images of each part, where it is known.
        is_complete: whether no array is missing, so that their classes can be compared.
    """
    problems: list[Problem] = []
    read = {part: _plain(y, f"y_{part}", problems, config) for part, y in labels.items()}
    for part, y in labels.items():
        if part in sizes and y.ndim and len(y) != sizes[part]:
            message = (
                f"x_{part} has {sizes[part]} images and y_{part} {len(y)} labels; there must be "
                "one label an image, in the same order"
            )
            problems.append(finding(config, _ARRAYS, message))
    kinds = {y.dtype.kind for y in read.values() if y is not None}
    if len(kinds & {"U"}) and len(kinds) > 1:
        message = (
            f"{join_first(f'y_{part}' for part in read)} hold text and numbers; write one of them"
        )
        problems.append(finding(config, _ARRAYS, message))
    whole = {part: y for part, y in read.items() if y is not None}
    problems += _check_unlabelled(whole, config)
    if not problems and is_complete:
        problems += _check_known(whole, config)
    findings.problems += problems
    return None if problems else whole


def _plain(
    y: NDArray[Any], name: str, problems: list[Problem], config: DataConfig
) -> NDArray[Any] | None:
    def refuse(message: str) -> None:
        problems.append(finding(config, _ARRAYS, f"{name} {message}"))

    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    elif y.ndim == 2 and y.dtype.kind in "biuf" and _is_one_hot(y):
        return np.asarray(y.argmax(axis=1))
    if y.ndim != 1:
        refuse(f"must have shape (N,), or (N, K) with a single 1 in each row, got {y.shape}")
    elif y.dtype.kind == "S":
        try:
            return np.array([text.decode() for text in y.tolist()], dtype=np.str_)
        except UnicodeDecodeError as error:
            refuse(f"holds bytes that are not UTF-8 ({error.object[:20]!r}); write text")
    elif y.dtype.kind == "f":
        shown = and_others([f"{value:g}" for value in y[:3].tolist()], len(y))
        refuse(f"must hold whole numbers or names, got floats ({shown}); convert it")
    elif y.dtype.kind not in "iuU":
        refuse(f"must hold whole numbers or names, got {y.dtype}; convert it")
    elif y.dtype.kind == "U" and (y == "").any():
        refuse(f"has {int((y == '').sum())} empty labels; label them")
    else:
        # Together with int64, uint64 would become float64.
        return y if y.dtype.kind == "U" else y.astype(np.int64)
    return None


def _is_one_hot(y: NDArray[Any]) -> bool:
    values = y.astype(np.float64)
    return bool(np.isin(values, (0, 1)).all() and (values.sum(axis=1) == 1).all())


def _check_unlabelled(labels: dict[str, NDArray[Any]], config: DataConfig) -> list[Problem]:
    """Return a problem for each part with labels -1 where classes count from 0: they mark images
    without a label.
    """
    numbers = {part: y for part, y in labels.items() if y.dtype.kind == "i"}
    if not any((y == 0).any() for y in numbers.values()):
        return []
    return [
        finding(
            config,
            _ARRAYS,
            f"y_{part} has {int((y == -1).sum())} labels -1, which mark images without a label; "
            "leave these images out, or count the classes from 0",
        )
        for part, y in numbers.items()
        if (y == -1).any()
    ]


def _check_known(labels: dict[str, NDArray[Any]], config: DataConfig) -> list[Problem]:
    if config.split_by == "class" and "valid" in labels:
        return _check_apart(labels, config)
    found: list[Problem] = []
    for part, y in labels.items():
        unknown = np.setdiff1d(y, labels["train"]) if "train" in labels else np.array([])
        if len(unknown):
            message = (
                f"y_{part} has labels that y_train does not have: {join_first(unknown)}; every "
                "class needs training images"
            )
            found.append(finding(config, "unknown-class", message))
    return found


def _check_apart(labels: dict[str, NDArray[Any]], config: DataConfig) -> list[Problem]:
    problems: list[Problem] = []
    for first, second in combinations(labels, 2):
        shared = np.intersect1d(labels[first], labels[second])
        if len(shared):
            message = (
                f"y_{first} and y_{second} share {len(shared)} classes: {join_first(shared)}; a "
                "class belongs to one split alone"
            )
            problems.append(finding(config, "shared-class", message))
    return problems


def merge_labels(
    labels: dict[str, NDArray[Any]],
    names: NDArray[Any] | None,
    config: DataConfig,
    findings: Findings,
) -> Labels:
    """Return labels 0..K-1 of all parts, and the name of each class.

    Args:
        names: names of the classes: one for each value that occurs, or for each value from 0 on.
    """
    values, y = np.unique(np.concatenate(list(labels.values())), return_inverse=True)
    classes = [str(value) for value in values.tolist()]
    counts = {part: len(own) for part, own in labels.items()}
    merged = Labels(y.astype(np.int64), classes, counts)
    texts = None if names is None else _texts(names, config, findings)
    if texts is None or values.dtype.kind == "U":
        return merged
    if len(texts) == len(values):
        return Labels(merged.numbers, texts, counts)
    if values.min() >= 0 and values.max() < len(texts):
        lacking = [text for value, text in enumerate(texts) if value not in values]
        message = "classes names {count} classes without images: {examples}; they were left out"
        findings.warnings.append(finding(config, "missing-class", message, lacking))
        return Labels(merged.numbers, [texts[value] for value in values.tolist()], counts)
    message = (
        f"classes has {len(texts)} names, and there are {len(values)} labels "
        f"({join_first(values)}); the classes are called by their labels"
    )
    findings.warnings.append(finding(config, "class-names", message))
    return merged


def _texts(names: NDArray[Any], config: DataConfig, findings: Findings) -> list[str] | None:
    try:
        found = [n.decode() if isinstance(n, bytes) else str(n) for n in names.ravel().tolist()]
    except UnicodeDecodeError as error:
        message = f"classes holds bytes that are not UTF-8 ({error.object[:20]!r}); write text"
        findings.problems.append(finding(config, "class-names", message))
        return None
    twice = sorted({name for name in found if found.count(name) > 1})
    if twice:
        message = (
            f"classes has {join_first(twice)} several times; give each class a name of its own"
        )
        findings.problems.append(finding(config, "class-names", message))
    return found
