"""Identity of a study: the settings that its children depend on.

A search with other settings is refused.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from optuna.study import StudyDirection

from nascore.config import SearchConfig, Section
from nascore.errors import InputError
from nascore.search.database_check import OTHER_PROGRAM
from nascore.search.study_storage import Storage

VERSION = 3
NOTHING: Mapping[str, object] = MappingProxyType({})
_ATTRIBUTE = "identity"


def identity(
    method: str,
    *,
    options: Section | None,
    evaluation: Mapping[str, object],
    space: str,
    seed: int,
    data_sha256: str,
    search: SearchConfig,
    objective: Mapping[str, object] = NOTHING,
) -> dict[str, object]:
    """Return the identity of the study of one arm.

    Args:
        method: of the arm; the control's is `Method.control`.
        options: of the method; None where the arm has none.
        evaluation: further settings of the training of children, `evaluation_settings`.
        space: its identifier.
        objective: `nascore.context.objective_settings`.
    """
    common: dict[str, object] = {"evaluation": dict(evaluation)} if evaluation else {}
    if getattr(search.space, "equal_computation", False):
        common["equal_computation"] = True
    return {
        **common,
        **objective,
        "method": method,
        "space": space,
        "seed": seed,
        "data": data_sha256,
        "child": search.child.model_dump(mode="json"),
        "options": {} if options is None else options.model_dump(mode="json"),
        "cost": None if search.cost is None else search.cost.model_dump(mode="json"),
        "pruner": search.pruner,
    }


def evaluation_settings(options: Section) -> Mapping[str, object]:
    """Return the options of a method that also decide how the children of its control are trained.

    Empty for methods whose children are trained by `search.child` alone.
    """
    found: Mapping[str, object] = getattr(options, "evaluation_settings", {})
    return found


def study_name(search: SearchConfig, run_key: str, arm: str) -> str:
    """Return the name of the study of an arm."""
    return f"{search.study or run_key}/{arm}"


def bind_study(storage: Storage, study_id: int, name: str, wanted: Mapping[str, object]) -> None:
    """Write the identity to a study that has none.

    Raises:
        InputError: it has another one, or another program has made the study.
    """
    found, wanted = _read(storage, study_id), {"version": VERSION, **wanted}
    if found is None:
        _refuse_foreign(storage, study_id, name)
        storage.call_with_retries(storage.optuna.set_study_user_attr, study_id, _ATTRIBUTE, wanted)
    else:
        _compare(name, found, wanted)


def check(storage: Storage, name: str, wanted: Mapping[str, object]) -> None:
    """Check whether a search may resume a study; none is created.

    Raises:
        InputError: there is a study of that name, and it is of another search or program.
    """
    try:
        study_id = storage.call_with_retries(storage.optuna.get_study_id_from_name, name)
    except KeyError:
        return
    found = _read(storage, study_id)
    if found is None:
        _refuse_foreign(storage, study_id, name)
    else:
        _compare(name, found, {"version": VERSION, **wanted})


def _refuse_foreign(storage: Storage, study_id: int, name: str) -> None:
    """Refuse a study without identity that was not just made by a worker of this search.

    Raises:
        InputError: another program has made it.
    """
    directions = storage.call_with_retries(storage.optuna.get_study_directions, study_id)
    num_trials = storage.call_with_retries(storage.optuna.get_n_trials, study_id)
    if num_trials or list(directions) != [StudyDirection.MAXIMIZE]:
        raise InputError.of("search.study", name, OTHER_PROGRAM)


def _read(storage: Storage, study_id: int) -> dict[str, Any] | None:
    attributes: dict[str, Any] = storage.call_with_retries(
        storage.optuna.get_study_user_attrs, study_id
    )
    found: dict[str, Any] | None = attributes.get(_ATTRIBUTE)
    return found


def _compare(name: str, found: Mapping[str, object], wanted: Mapping[str, object]) -> None:
    different = sorted(
        key for key in wanted.keys() | found.keys() if found.get(key) != wanted.get(key)
    )
    if "version" in different:
        raise InputError.of(
            "search.study",
            name,
            f"was made by another version of this program: it is version {found.get('version')}, "
            f"{VERSION} is needed; use another output folder or study",
        )
    if different:
        raise InputError.of(
            "search.study",
            name,
            f"was made by another search: {', '.join(different)} differ "
            f"({', '.join(f'{key} was {found.get(key)!r}' for key in different)}); "
            "use another output folder or study, or the old configuration",
        )
