"""A SQLite store as an older MLflow has left it, made by MLflow's own migrations."""

from pathlib import Path

OLDER = "534353b11cbc"
"""Revision at which the migrations stop."""
NEWER = "ffffffffffff"
"""A revision that the installed MLflow does not know."""


def make_old_store(path: Path) -> Path:
    """Make a store whose tables have the revision `OLDER`."""
    from alembic import command
    from mlflow.store.db import utils
    from mlflow.store.tracking.dbmodels.initial_models import Base

    uri = f"sqlite:///{path}"
    engine = utils.create_sqlalchemy_engine(uri)
    Base.metadata.create_all(engine)
    config = utils._get_alembic_config(uri)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, OLDER)
    engine.dispose()
    return path
