"""Checks of services: database of the study, MLflow, data, place of exported files."""

from pathlib import Path

from components.config.schema import Config
from components.steps.transfer import object_problems
from components.tracking import check_store
from nascore.errors import InputError, Problem, collect_problems
from nascore.files import is_writable
from nascore.redaction import redact
from pipelines.doctor.finding import Finding


def check_study(config: Config) -> Finding:
    """Check that the database can keep studies, as a run does; nothing remains in it."""
    problem = study_problem(config)
    if problem is not None:
        cause, _, advice = problem.message.partition("; ")
        return Finding("study", "problem", f"{problem.value}: {cause}", advice)
    storage = config.search.storage
    seen = "a file in the folder of the run" if storage is None else redact(storage)
    return Finding("study", "ok", seen)


def study_problem(config: Config) -> Problem | None:
    """Return why the database of the study cannot be used; None if it can, or is a file of a run.

    Args:
        config: of the run.
    """
    from nascore.search.database_check import check_database
    from nascore.search.database_errors import OPENING, input_error
    from nascore.search.database_url import KEY, resolve_url

    storage = config.search.storage
    if storage is None:
        return None
    url = ""
    try:
        url = resolve_url(storage)
        fault = _sqlite_fault(url)
        if fault is None:
            check_database(url, study=config.search.study)
    except InputError as error:
        return error.problems[0]
    except OPENING as error:
        return input_error(url, error).problems[0]
    return Problem(KEY, storage, fault) if fault else None


def _sqlite_fault(url: str) -> str | None:
    """Return why a new SQLite file cannot be made, empty if it can; None for other databases."""
    from sqlalchemy import make_url

    parsed = make_url(url)
    path = Path(parsed.database or "").resolve()
    if parsed.get_backend_name() != "sqlite" or path.exists():
        return None
    if path.parent.is_dir() and is_writable(path.parent):
        return ""
    return f"{path.parent} is not a writable folder; name another place in search.storage"


def check_tracking(config: Config) -> Finding:
    from components.tracking.client import ignored_variables
    from components.tracking.experiments import with_active_experiment

    config, notes = with_active_experiment(config)
    problems, warnings = check_store(
        config.tracking.uri,
        config.tracking.experiment,
        writes=True,
        model=config.registry.model,
    )
    notes += ignored_variables(config.tracking.uri)
    shown = "; ".join([redact(config.tracking.uri), *notes])
    if problems:
        advice = _advice(problems[0], "tracking.uri")
        return Finding("tracking", "problem", shown, advice)
    if warnings:
        return Finding("tracking", "warning", shown, warnings[0])
    return Finding("tracking", "ok", shown)


def check_champion(config: Config, *, retrains: bool = False) -> Finding:
    """Check that a new model can be compared with the champion, as the first step of a run does.

    Without `registry.model`, the name of the registered model depends on the data.

    Args:
        config: of the run.
        retrains: whether it is of the retraining pipeline.
    """
    from components.registry.champion_check import is_replaced, remedy
    from components.steps.champion import REPLACED, fault_of

    name = config.registry.model
    if name is None:
        return Finding("champion", "ok", "the default name of the model depends on the data")
    notes: list[str] = []
    try:
        fault = fault_of(config, None, say=notes.append)
    except InputError as error:
        return Finding("champion", "problem", name, _advice(error.problems[0], "registry.model"))
    if fault is None:
        return Finding("champion", "warning" if notes else "ok", name, "".join(notes))
    if is_replaced(fault, config.registry.unusable_champion, retrains=retrains):
        return Finding("champion", "warning", f"{name}: {fault}", REPLACED)
    return Finding("champion", "problem", f"{name}: {fault}", remedy(fault, name))


def _advice(problem: Problem, key: str) -> str:
    """Return the message of a problem, with its subject unless it is that of the finding.

    Args:
        problem: found by a check.
        key: setting whose value the finding shows.
    """
    return problem.message if problem.key == key else str(problem)


def check_data(config: Config) -> Finding:
    """Check that the data source exists; the first step of a run reads it."""
    from nascore.data.file_access import S3

    source = config.data.source
    message = data_fault(config)
    if message:
        return Finding("data", "problem", redact(source), message)
    kind, _, path = source.partition(":")
    if path.startswith(S3):
        return _remote_finding(config)
    if kind in ("cifar10", "cifar100", "omniglot") and config.data.root is None:
        return Finding(
            "data", "warning", source, "will be downloaded; set data.root to use files at hand"
        )
    return Finding("data", "ok", source)


def _remote_finding(config: Config) -> Finding:
    from components.steps.s3_source import check_remote

    try:
        check_remote(config)
    except InputError as error:
        advice = _advice(error.problems[0], "data.source")
        return Finding("data", "problem", redact(config.data.source), advice)
    return Finding("data", "ok", config.data.source)


def check_pretrained(config: Config) -> Finding:
    """Check that weights and teacher in S3 can be read; the first step reads those of all kinds."""
    given = [one for one in (config.training.weights, config.training.teacher) if one is not None]
    shown = ", ".join(redact(one) for one in given) or "no weights and no teacher are set"
    problems = object_problems(config)
    if problems:
        return Finding("pretrained", "problem", shown, "; ".join(map(str, problems)))
    return Finding("pretrained", "ok", shown)


def store_problems(config: Config) -> list[Problem]:
    """Return what keeps a run from S3: its data, its weights and teacher, its exported files."""
    from components.steps.s3_source import check_remote

    problems: list[Problem] = []
    with collect_problems(problems):
        check_remote(config)
    problems += object_problems(config)
    if config.promote.export_to is not None:
        with collect_problems(problems):
            _check_outputs(config)
    return problems


def _check_outputs(config: Config) -> str:
    from components.export.manifest import check_outputs
    from components.object_store.outputs import open_outputs

    root = config.promote.export_to
    assert root is not None
    return check_outputs(open_outputs(root), config.registry.model)


def data_fault(config: Config) -> str:
    """Return what is wrong with the data source, as far as it can be seen at once; else empty."""
    from nascore.data.archives import ENDINGS, is_archive_name
    from nascore.data.file_access import S3
    from nascore.data.sources import uri_error

    source = config.data.source
    message = uri_error(source)
    kind, _, path = source.partition(":")
    if message or not path or path.startswith(S3):
        return message
    there = Path(path).expanduser()
    is_tree = kind == "imagefolder"
    if not (there.is_file() or (is_tree and there.is_dir())):
        what = "folder or archive" if is_tree else "file"
        return f"there is no {what} {path}; correct data.source"
    if is_tree and there.is_file() and not is_archive_name(path):
        return f"{path} is a file; name a folder, or one that ends in {', '.join(ENDINGS)}"
    return ""


def check_export(config: Config) -> Finding:
    """Check that the files of a run can be exported."""
    root = config.promote.export_to
    if root is None:
        return Finding("export", "ok", "results stay in the folder of the run, and in MLflow")
    try:
        warning = _check_outputs(config)
    except InputError as error:
        advice = _advice(error.problems[0], "promote.export_to")
        return Finding("export", "problem", root, advice)
    return Finding("export", "warning" if warning else "ok", root, warning)


def check_state(config: Config) -> Finding:
    """Check the place of the state of runs on a cluster; `nas run` does not use it."""
    from components.run_state.checks import check_state
    from nascore.data.file_access import S3

    place = config.cluster.state
    if place is None or not place.startswith(S3):
        return Finding("state", "ok", place or "no state outlives a pod")
    try:
        warning = check_state(place, retry_timeout_s=0)
    except InputError as error:
        return Finding("state", "warning", place, f"{error.problems[0].message} (from here)")
    return Finding("state", "warning" if warning else "ok", place, warning)
