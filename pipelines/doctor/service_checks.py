"""Checks of services: database of the study, MLflow, data, place of exported files."""

from pathlib import Path

from components.config.schema import Config
from components.tracking import check_store
from nascore.errors import InputError
from nascore.files import is_writable
from nascore.redaction import redact
from pipelines.doctor.finding import Finding

_CONNECT_S = 5


def check_study(config: Config) -> Finding:
    """Check that the database of the study is reachable; nothing is created in it."""
    from nascore.search.database_url import resolve_url, without_password

    storage = config.search.storage
    if storage is None:
        return Finding("study", "ok", "a file in the folder of the run")
    try:
        url = resolve_url(storage)
    except InputError as error:
        return Finding("study", "problem", redact(storage), error.problems[0].message)
    fault = _connection_fault(url)
    if fault is not None:
        advice = "check search.storage, the account, and that the server can be reached from here"
        return Finding("study", "problem", f"{without_password(url)}: {fault}", advice)
    return Finding("study", "ok", without_password(url))


def _connection_fault(url: str) -> str | None:
    """Return the error of a connection; for SQLite, whether its file could be created."""
    from sqlalchemy import create_engine, make_url, text
    from sqlalchemy.exc import SQLAlchemyError

    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        folder = Path(parsed.database or "").resolve().parent
        return None if folder.is_dir() and is_writable(folder) else f"{folder} is not writable"
    timed = parsed.drivername.startswith("postgresql+psycopg")
    try:
        engine = create_engine(url, connect_args={"connect_timeout": _CONNECT_S} if timed else {})
        try:
            with engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        finally:
            engine.dispose()
    except (SQLAlchemyError, ImportError) as error:  # no driver
        return str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
    return None


def check_tracking(config: Config) -> Finding:
    problems, warnings = check_store(config.tracking.uri, config.tracking.experiment)
    shown = redact(config.tracking.uri)
    if problems:
        return Finding("tracking", "problem", shown, problems[0].message)
    if warnings:
        return Finding("tracking", "warning", shown, warnings[0])
    return Finding("tracking", "ok", shown)


def check_data(config: Config) -> Finding:
    """Check that the data source exists; the first step of a run reads it."""
    from nascore.data.archives import ENDINGS, is_archive_name
    from nascore.data.sources import uri_error

    source = config.data.source
    message = uri_error(source)
    if message:
        return Finding("data", "problem", redact(source), message)
    kind, _, path = source.partition(":")
    if path.startswith("s3://"):
        return Finding("data", "ok", f"{source} (read in the first step of a run)")
    there = Path(path).expanduser()
    is_tree = kind == "imagefolder"
    if path and not (there.is_file() or (is_tree and there.is_dir())):
        what = "folder or archive" if is_tree else "file"
        return Finding("data", "problem", source, f"there is no {what} {path}; correct data.source")
    if is_tree and there.is_file() and not is_archive_name(path):
        message = f"{path} is a file; name a folder, or one that ends in {', '.join(ENDINGS)}"
        return Finding("data", "problem", source, message)
    if kind in ("cifar10", "cifar100", "omniglot") and config.data.root is None:
        return Finding(
            "data", "warning", source, "will be downloaded; set data.root to use files at hand"
        )
    return Finding("data", "ok", source)


def check_export(config: Config) -> Finding:
    """Check that the files of a run can be exported."""
    from components.export.manifest import check_outputs
    from components.object_store.outputs import open_outputs

    root = config.promote.export_to
    if root is None:
        return Finding("export", "ok", "results stay in the folder of the run, and in MLflow")
    try:
        check_outputs(open_outputs(root), config.promote.model_name)
    except InputError as error:
        return Finding("export", "problem", root, error.problems[0].message)
    return Finding("export", "ok", root)
