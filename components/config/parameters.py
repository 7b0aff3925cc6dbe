"""Parameters of the compiled pipelines; most are options of the command line, too.

All are texts, and empty for "as compiled". A number would have to be given at each start: KFP's UI
(2.17, frontend/src/lib/NewRunParametersUtils.ts, getInitialParameterState) keeps the Start button
off while a parameter without a default has no value, whether it is optional or not. And a null ends
the run: the API server passes it for an optional parameter that is not given
(backend/src/v2/compiler/argocompiler/argo.go, Compile), but the group of steps that the exit task
waits for has it as an input that kfp's compiler makes without `isOptional`, and the driver of the
group then ends with "the resolved input parameter is null" (backend/src/v2/driver/resolve.go,
resolveInputs). An empty text is a value in all of these places.
"""

import json
import re
from dataclasses import dataclass

import yaml

SETTINGS = "settings"
"""Name of the parameter for all other settings."""
SETTINGS_HELP = (
    "Any other setting, as key=value lines or key=value key=value; `nas config` lists them."
)
_START = re.compile(r"""("(?:\\.|[^"\\])*"|'[^']*')|(?:(?<=\s)|^)(?=[A-Za-z_][\w-]*(\.[\w-]+)*=)""")
"""A quoted text (group 1), or the place where a setting starts."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the pipelines for one setting.

    Attributes:
        name: in the pipelines; `image_size` is `--image-size` on the command line.
        key: the setting.
        metavar: what the help of a command calls the value.
        help: what the value is, with examples.
        is_text: whether the value is text even where YAML would read a number.
    """

    name: str
    key: str
    metavar: str
    help: str
    is_text: bool = True

    @property
    def option(self) -> str:
        """Return the option of the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def description(self) -> str:
        """Return the description in Kubeflow."""
        return f"{self.help} Sets {self.key}; empty: as compiled."

    def setting(self, text: str) -> str:
        """Return a value as `key.path=value`, quoted where YAML would not read it as text."""
        try:
            is_read_as_text = yaml.safe_load(text) == text
        except yaml.YAMLError:
            is_read_as_text = False
        quoted = text if is_read_as_text or not self.is_text else json.dumps(text)
        return f"{self.key}={quoted}"


PARAMETERS = (
    Parameter("method", "method", "NAME", "Search method, such as nases or random."),
    Parameter("data", "data.source", "SOURCE", "Images: imagefolder:DIR, npz:FILE, s3://..."),
    Parameter(
        "budget", "search.budget", "AMOUNT", "30m, 2h, 64 children, 5000 steps, 2 gpu-hours."
    ),
    Parameter("workers", "search.workers", "N", "Processes that search together.", is_text=False),
    Parameter("seed", "seed", "N", "Seed of everything random.", is_text=False),
    Parameter("objective", "search.objective", "NAME", "Metric to maximise."),
    Parameter("image_size", "data.image_size", "PIXELS", "Height and width.", is_text=False),
    Parameter("model", "registry.model", "NAME", "Name in the MLflow registry."),
    Parameter("experiment", "tracking.experiment", "NAME", "In MLflow and on Kubeflow."),
    Parameter(
        "min_gain",
        "promote.min_gain",
        "FRACTION",
        "Smallest gain over the champion, such as 0.005.",
        is_text=False,
    ),
)


NAMES = (*(one.name for one in PARAMETERS), SETTINGS)
"""Names of all parameters, in the order of the pipelines."""


def descriptions() -> dict[str, str]:
    """Return the description of each parameter by its name, in the order of the pipelines."""
    return {one.name: one.description for one in PARAMETERS} | {SETTINGS: SETTINGS_HELP}


def split_settings(text: str) -> list[str]:
    """Return the `key.path=value` settings of a text with one or several in a line.

    KFP's form has a single line, so a setting also ends where the next one begins after a space;
    quotes keep such a text together.
    """
    found = []
    for line in text.splitlines():
        starts = [match.start() for match in _START.finditer(line) if match[1] is None]
        if not starts or line[: starts[0]].strip():
            starts = [0, *starts]
        ends = [*starts[1:], len(line)]
        pieces = (line[start:end].strip() for start, end in zip(starts, ends, strict=True))
        found += [piece for piece in pieces if piece]
    return found
