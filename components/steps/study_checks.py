"""Checks before a search whether it may resume the study that its configuration names."""

import contextlib

from components.config.schema import Config
from nascore.errors import InputError, Problem, collect_problems
from nascore.methods.registry import METHODS


def check_studies(settings: Config, data_sha256: str) -> None:
    """Check the named studies in their database, and create none.

    Without `search.study` and `search.storage` there is nothing to check: the study is new, or in
    the folder of the run.

    Raises:
        InputError: they belong to another search.
    """
    search = settings.search
    if search.study is None or search.storage is None:
        return
    from nascore.context import objective_settings
    from nascore.search.database_url import resolve_url
    from nascore.search.study_identity import (  # Optuna
        check,
        evaluation_settings,
        identity,
        study_name,
    )
    from nascore.search.study_storage import Storage
    from nascore.spaces.base import (
        make_space,  # torch: three seconds, which other runs do not wait for
    )

    control = METHODS[settings.method].control
    options = search.options
    problems: list[Problem] = []
    with contextlib.closing(Storage(resolve_url(search.storage))) as storage:
        for arm, method in (("method", settings.method), ("control", control)):
            wanted = identity(
                method,
                options=options if method == settings.method else None,
                evaluation=evaluation_settings(options),
                space=make_space(search.space).identifier,
                seed=settings.seed,
                data_sha256=data_sha256,
                search=search,
                objective=objective_settings(search.objective, settings.training),
            )
            with collect_problems(problems):
                check(storage, study_name(search, "", arm), wanted)
    if problems:
        raise InputError(problems)
