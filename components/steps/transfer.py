"""Pretrained weights and the teacher of the final training: checked first, read before it.

The first step reads both, so that a wrong file ends the run before a search, and stores what they
were in the folder of the data. The final training reads them again, and refuses others. Imports no
torch; the functions do.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from components.config.schema import Config
from components.steps.state import read_json, write_json
from components.tracking.mlflow_errors import call_mlflow
from nascore.config.transfer import FINALISTS
from nascore.data.file_access import S3
from nascore.data.prepared import DatasetInfo
from nascore.errors import InputError, Problem, ServiceUnavailable, collect_problems, error_of
from nascore.redaction import redact

if TYPE_CHECKING:
    from components.object_store.client import Store
    from nascore.context import SearchContext
    from nascore.pretrained.weight_files import WeightFile
    from nascore.training.distillation import Teacher

FILE = "transfer.json"
"""SHA-256 of the weights and identity of the teacher, in the folder of the data."""
_SAMPLED = 16  # networks of a space that are compared with a file of weights
_WAIT_S = 120.0  # for the registry

Say = Callable[[str], None]
Answer = TypeVar("Answer")


def check_transfer(
    config: Config, info: DatasetInfo, dataset: Path, *, state: Path, say: Say
) -> Config:
    """Check the weights and the teacher of a run before anything is trained.

    Args:
        config: of the run.
        info: of the prepared data.
        dataset: folder of the data; gets `transfer.json` if the run has either.
        state: folder of the step, for copies that are removed again.
        say: gets one sentence about each.

    Returns:
        The configuration, where a registered teacher has its present version.

    Raises:
        InputError: the weights cannot be read or fit no network of the space, or the teacher has
            another task.
        ServiceUnavailable: the registry of the teacher does not answer in time.
    """
    found: dict[str, str] = {}
    errors: list[InputError] = []
    try:
        if config.training.weights is not None:
            with _weights(config, state, trusted=False) as weights:
                _check_fits(config, info, weights)
            found["weights"] = weights.sha256
            say(f"training.weights: {weights.source} has SHA-256 {weights.sha256}")
    except InputError as error:
        errors.append(error)
    try:
        if config.training.teacher not in (None, FINALISTS):
            config = _with_pinned_teacher(config, say)
            task = _teacher(config, info, state, say, trusted=False).task
            found["teacher"] = task.identity
            say(f"training.teacher: {task.name} ({task.identity})")
    except InputError as error:
        errors.append(error)
    if errors:
        raise error_of(errors)
    if found:
        write_json(dataset / FILE, found)
    return config


def with_transfer(
    context: "SearchContext", config: Config, dataset: Path, *, state: Path, say: Say
) -> "SearchContext":
    """Return the context of the final training with the weights and the teacher of the run.

    Args:
        context: of the step.
        config: of the run, from `check_transfer`.
        dataset: folder of the data.
        state: folder of the step, for copies that are removed again.
        say: gets one sentence when the registry does not answer.

    Raises:
        InputError: they are not those that the first step has checked.
    """
    training = config.training
    teacher = None if training.teacher == FINALISTS else training.teacher
    if training.weights is None and teacher is None:
        return context
    from nascore.context import device_of

    checked: dict[str, Any] = read_json(dataset / FILE)
    if training.weights is not None:
        with _weights(config, state, trusted=True) as weights:
            _refuse_other("training.weights", weights.source, weights.sha256, checked["weights"])
            context = replace(context, start=weights)
    if teacher is not None:
        found = _teacher(config, context.splits.info, state, say, trusted=True)
        task = found.task
        _refuse_other("training.teacher", task.name, task.identity, checked["teacher"])
        context = replace(context, teacher=found.to(device_of(context.final)))
    return context


def _refuse_other(key: str, name: str, found: str, checked: str) -> None:
    if found != checked:
        message = (
            f"is {found[:12]}, and was {checked[:12]} at the start of the run: it was replaced "
            "since; bring the former one back, or start the run again"
        )
        raise InputError.of(key, name, message)


def object_problems(config: Config) -> list[Problem]:
    """Return why weights and teacher cannot be read, where they are in S3; nothing is copied."""
    problems: list[Problem] = []
    weights, teacher = config.training.weights, config.training.teacher
    if weights is not None and weights.startswith(S3):
        from components.object_store.objects import look
        from nascore.pretrained.weight_files import KEY as WEIGHTS

        with collect_problems(problems):
            look(weights, store=_store(config, WEIGHTS))
    if teacher is not None and teacher.startswith(S3):
        from components.registry.teacher_files import find_files
        from nascore.training.distillation import KEY as TEACHER

        with collect_problems(problems):
            find_files(teacher, store=_store(config, TEACHER))
    return problems


def _store(config: Config, key: str, *, trusted: bool = False) -> "Store":
    from components.object_store.client import Store  # boto3: a third of a second

    is_payer = config.s3.request_payer is not None
    return Store(key=key, trusted=trusted, is_payer=is_payer)


# --- weights ------------------------------------------------------------------------------------


@contextmanager
def _weights(config: Config, state: Path, *, trusted: bool) -> "Iterator[WeightFile]":
    """Yield the weights of a run, from a local file or a copy of an object."""
    from nascore.pretrained.weight_files import KEY, read_weight_file

    source = config.training.weights
    assert source is not None
    if not source.startswith(S3):
        yield read_weight_file(Path(source).expanduser())
        return
    from components.object_store.downloads import download

    state.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=state) as folder:
        path = Path(folder) / "weights"
        download(source, path, store=_store(config, KEY, trusted=trusted))
        yield read_weight_file(path, source=source)


def _check_fits(config: Config, info: DatasetInfo, weights: "WeightFile") -> None:
    """Refuse weights of which too little fits the best of some random networks of the space.

    How much fits the network that a search finds is known at its end only.
    """
    import numpy as np
    import torch

    from nascore.pretrained.matching import MIN_SHARE, MIN_SHARE_OF_PARTS, fit, refusal
    from nascore.pretrained.part_names import renaming
    from nascore.spaces.base import ImageShape, StandardSpace, make_space, sample

    space = make_space(config.search.space)
    rng = np.random.default_rng(0)
    genotypes = [sample(space, rng) for _ in range(_SAMPLED)]
    if isinstance(space, StandardSpace):
        genotypes.insert(0, space.standard)
    shape = ImageShape(info.channels, info.size, len(info.classes))
    fits = []
    for genotype in genotypes:
        with torch.device("meta"):
            network = space.build(genotype, shape, "final")
        names = renaming(network, weights, space=space, genotype=genotype, shape=shape)
        _, transfer = fit(network, weights, classes=info.classes, renaming=names)
        needed = MIN_SHARE if names is None else MIN_SHARE_OF_PARTS
        if transfer.share >= needed:
            return
        fits.append((network, transfer, needed))
    network, transfer, needed = max(fits, key=lambda one: one[1].share)
    raise refusal(network, weights, transfer, needed)


# --- teacher ------------------------------------------------------------------------------------


def _with_pinned_teacher(config: Config, say: Say) -> Config:
    from components.registry.teachers import is_registered, pinned

    text, uri = config.training.teacher, config.tracking.uri
    assert text is not None
    if not is_registered(text):
        return config
    version = _ask(config, lambda: pinned(text, uri=uri), say)
    training = config.training.model_copy(update={"teacher": version})
    return config.model_copy(update={"training": training})


def _teacher(
    config: Config, info: DatasetInfo, state: Path, say: Say, *, trusted: bool
) -> "Teacher":
    """Return the teacher of a run on the CPU, once its task and its answers have been checked."""
    from components.registry.teacher_files import find_files
    from components.registry.teachers import load_teacher
    from nascore.training.distillation import KEY, Teacher

    text, uri = config.training.teacher, config.tracking.uri
    assert text is not None
    state.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=state) as made:
        folder, copy = Path(made), None
        if text.startswith(S3):
            store = _store(config, KEY, trusted=trusted)
            copy = find_files(text, store=store).copy(folder, store=store)
        model, task = _ask(
            config, lambda: load_teacher(text, uri=uri, folder=folder, copy=copy), say
        )
    task.check(info)
    teacher = Teacher(model, task, info)
    teacher.check_outputs()
    return teacher


def _ask(config: Config, call: Callable[[], Answer], say: Say) -> Answer:
    try:
        return call_mlflow(call, timeout_s=_WAIT_S, on_outage=say)
    except TimeoutError as error:
        raise ServiceUnavailable(
            "model registry",
            f"{error} at {redact(config.tracking.uri)}, and training.teacher is there; nothing was "
            "trained: bring the registry back and run the step again",
        ) from error
