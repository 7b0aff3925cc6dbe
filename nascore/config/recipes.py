"""Recipes of training: the values of all switches that a configuration leaves at null.

One table for all. A recipe is a starting point: each switch of section `training` (and the warm-up
of a training) may still be set alone. `docs/training.md` names the source of each switch and what
it was measured to change.
"""

from collections.abc import Mapping
from typing import Any, Literal

RecipeName = Literal["quick", "strong", "paper"]

SWITCHES: Mapping[str, Mapping[RecipeName, Any]] = {
    "warmup_fraction": {"paper": 0.0, "quick": 0.2, "strong": 0.1},
    "min_lr": {"paper": 0.001, "quick": 0.0, "strong": 0.0},
    "weight_decay": {"paper": 1e-4, "quick": 5e-4, "strong": 5e-4},
    "label_smoothing": {"paper": 0.0, "quick": 0.1, "strong": 0.1},
    "ema": {"paper": 0.0, "quick": 0.02, "strong": 0.02},
    "test_time_flip": {"paper": False, "quick": False, "strong": False},
    "auto_augment": {"paper": "none", "quick": "none", "strong": "trivial"},
    "mixup": {"paper": 0.0, "quick": 0.0, "strong": 0.2},
    "cutmix": {"paper": 0.0, "quick": 0.0, "strong": 1.0},
    "optimizer": {"paper": "sgd", "quick": "sgd", "strong": "sgd"},
    "channels_last": {"paper": False, "quick": False, "strong": True},
    "precision": {"paper": "fp32", "quick": "fp32", "strong": "auto"},
    "compile": {"paper": False, "quick": False, "strong": False},
}
"""Value of each switch in each recipe."""

_ADAPTIVE: Mapping[str, Any] = {"weight_decay": 0.05}
"""Values of any recipe for optimisers whose decay is multiplied by the rate alone."""

NOT_FOR_CHILDREN: Mapping[str, Any] = {"compile": False}
"""Switches that are off in the training of children: compilation costs more than they do."""

PAPER = {name: values["paper"] for name, values in SWITCHES.items()}
"""The recipe by which NASES trains: SGD, one cosine, no further regularisation."""

MAX_LR_OF_ADAPTIVE = 0.02
"""Highest learning rate of optimisers whose steps have the size of the rate (AdamW, Muon)."""


def resolve_switches(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the value of each switch: what is set, else that of the recipe.

    Args:
        given: settings by name; null and missing ones are not set.
    """
    recipe: RecipeName = given.get("recipe") or "paper"
    table = {name: values[recipe] for name, values in SWITCHES.items()}
    if (given.get("optimizer") or table["optimizer"]) != "sgd":
        table |= _ADAPTIVE
    return {
        name: value if given.get(name) is None else given[name] for name, value in table.items()
    }
