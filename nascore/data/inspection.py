"""Reading, splitting and checking a data set, for `prepare` and `nas check-data`; without torch."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nascore.config import DataConfig
from nascore.data.cache import DecodedCache
from nascore.data.checks import check, check_group_splits
from nascore.data.class_splits import GROUPS, ClassSplits, Need, split_classes, unmet
from nascore.data.content import Content, content_of, count_values
from nascore.data.decoding import histogram_of, scan
from nascore.data.file_access import Remote
from nascore.data.findings import KEY, Finding, Findings
from nascore.data.grouping import keep_together, places_of_copies, split_by_group
from nascore.data.mapped import chunks, in_chunk, release
from nascore.data.raw_dataset import Raw
from nascore.data.sources import read
from nascore.data.splits import SplitIndices, split, split_by_class
from nascore.errors import Problem, collect_problems


@dataclass(frozen=True, slots=True)
class Inspected:
    """A data set that was read, split and checked.

    Attributes:
        class_splits: the classes of each split, where they differ.
        histogram: int64 (C, 256), pixel values of the training images.
        data_sha256: hash of shape, pixels, labels and class names in order.
        content: digests and hashes of the images.
    """

    raw: Raw
    indices: SplitIndices
    class_splits: ClassSplits | None
    histogram: NDArray[np.int64]
    data_sha256: str
    content: Content

    def class_counts(self) -> dict[str, list[int]]:
        """Return the images of each class, by split."""
        splits = ("train", "valid", "test")
        labels, count = self.raw.labels, len(self.raw.classes)
        return {
            name: np.bincount(labels[getattr(self.indices, name)], minlength=count).tolist()
            for name in splits
        }


def inspect(
    config: DataConfig,
    seed: int,
    findings: Findings,
    *,
    remote: Remote | None = None,
    needs: Sequence[Need] = (),
    before_scan: Callable[[Raw], None] = lambda raw: None,
    cache: DecodedCache | None = None,
) -> Inspected:
    """Read, split and check the data.

    Args:
        findings: collects problems and warnings.
        remote: opens `s3://` sources.
        needs: the tasks that will be drawn, where the splits have different classes.
        before_scan: is called when the images are listed, before a large data set is read.
        cache: stores the decoded images of a large data set.

    Raises:
        InputError: The data cannot be used; all problems are listed.
    """
    raw = read(config, remote, findings)
    findings.checkpoint()
    if config.split_by == "class":
        classes, indices = _by_class(raw, config, seed, needs, findings)
    else:
        classes, indices = None, _by_image(raw, config, seed, findings)
    findings.checkpoint()
    before_scan(raw)
    histogram, digest, content = _look(raw, indices, config, findings, cache)
    findings.checkpoint()
    copies = places_of_copies(content.digests, content.is_known)
    if config.split_by != "class" and raw.image_groups is None:
        together = keep_together(
            indices,
            [places for places in copies if not content.is_constant[places[0]]],
            raw.labels,
            has_own_test=raw.num_test > 0,
            has_own_valid=raw.num_valid > 0,
            seed=seed,
        )
        histogram = _followed(raw, histogram, indices, together, config)
        indices = together
    checked = check(raw, indices, content, copies, histogram, config)
    findings.warnings += checked.warnings
    if findings.lenient or config.strict:
        findings.problems += checked.faults
    else:
        findings.warnings += checked.faults
    digest.update(raw.labels.astype("<i8").tobytes())
    digest.update("\n".join(raw.classes).encode())
    return Inspected(raw, indices, classes, histogram, digest.hexdigest(), content)


# --- what belongs where -----------------------------------------------------------------------


def _by_image(raw: Raw, config: DataConfig, seed: int, findings: Findings) -> SplitIndices:
    indices = None
    with collect_problems(findings.problems):
        if raw.image_groups is not None:
            indices = split_by_group(
                raw.labels,
                raw.image_groups,
                num_test=raw.num_test,
                num_valid=raw.num_valid,
                config=config,
                seed=seed,
                classes=raw.classes,
                findings=findings,
            )
            findings.problems += check_group_splits(raw, indices, config)
        else:
            indices = split(
                raw.labels,
                num_test=raw.num_test,
                num_valid=raw.num_valid,
                valid_fraction=config.valid_fraction,
                test_fraction=config.test_fraction,
                max_train=config.max_train,
                seed=seed,
            )
    return indices or _undivided(raw)


def _by_class(
    raw: Raw, config: DataConfig, seed: int, needs: Sequence[Need], findings: Findings
) -> tuple[ClassSplits | None, SplitIndices]:
    """Split whole classes; the source's own test images are treated like all others.

    Too few groups, classes or images are problems, and so are streamed images.
    """
    problems: list[Problem] = []
    if raw.images is None:
        message = (
            "few-shot tasks are drawn from memory, and the decoded images are larger than this; "
            "raise it, or make the images smaller (data.image_size)"
        )
        problems.append(Problem("data.memory_limit_mb", str(config.memory_limit_mb), message))
    labels, classes, indices = raw.labels, raw.class_splits, None
    with collect_problems(problems):
        if classes is None:
            classes = split_classes(
                raw.groups or raw.classes,
                valid_fraction=config.valid_fraction,
                test_fraction=config.test_fraction,
                seed=seed,
            )
        indices = split_by_class(labels, classes, max_train=config.max_train, seed=seed)
    if indices is not None:
        labels = labels[np.concatenate([indices.train, indices.valid, indices.test])]
    counts = np.bincount(labels, minlength=len(raw.classes)).tolist()
    problems += unmet(needs, counts, classes)
    findings.problems += [_of_source(problem, config) for problem in problems]
    return classes, indices or _undivided(raw)


def _of_source(problem: Problem, config: DataConfig) -> Problem:
    """Return a problem about groups as a problem about the source."""
    if problem.key != GROUPS:
        return problem
    message = f"has {problem.value} groups of classes; {problem.message}"
    return Finding(KEY, config.source, message, "too-few-groups")


def _undivided(raw: Raw) -> SplitIndices:
    """Return all images as training images, to check data that cannot be split."""
    nothing = np.zeros(0, np.int64)
    return SplitIndices(np.arange(len(raw.labels)), nothing, nothing)


# --- pixels -----------------------------------------------------------------------------------


def _look(
    raw: Raw,
    indices: SplitIndices,
    config: DataConfig,
    findings: Findings,
    cache: DecodedCache | None,
) -> tuple[NDArray[np.int64], "hashlib._Hash", Content]:
    """Return the histogram of the training images, the digest of all, and their content."""
    if raw.images is None:
        found = scan(raw, counted=indices.train, config=config, findings=findings, cache=cache)
        return found.histogram, found.pixels_sha256, found.content
    digest = hashlib.sha256(str(raw.images.shape).encode())
    for chunk in chunks(raw.images):
        digest.update(np.ascontiguousarray(chunk).data)
    histogram = _histogram(raw.images, indices.train)
    return histogram, digest, content_of(raw.images, raw.readable)


def _histogram(images: NDArray[np.uint8], positions: NDArray[np.int64]) -> NDArray[np.int64]:
    histogram = np.zeros((images.shape[-1], 256), np.int64)
    for part in chunks(positions, in_chunk(images)):
        histogram += count_values(images[part])
        release(images)
    return histogram


def _followed(
    raw: Raw,
    histogram: NDArray[np.int64],
    before: SplitIndices,
    after: SplitIndices,
    config: DataConfig,
) -> NDArray[np.int64]:
    """Return the histogram of the training images after some were moved."""
    moved = [np.setdiff1d(after.train, before.train), np.setdiff1d(before.train, after.train)]
    if not any(map(len, moved)):
        return histogram
    joined, left = (
        _histogram(raw.images, places)
        if raw.images is not None
        else histogram_of(raw, places, config)
        for places in moved
    )
    return histogram + joined - left
