"""The methods by name. Importing this imports no torch; the code of a method is loaded when used.

A method is a folder of `nascore.methods` and one line here: its module `entry` holds a `Method`
(`nascore.methods.base`) for each name, and its folder `presets` the configurations of each name.
Nothing else in the repository knows a method by name.
"""

import importlib

from nascore.methods.base import Method

PACKAGES = (
    "nascore.methods.nases",
    "nascore.methods.enas",
    "nascore.methods.instanas",
    "nascore.methods.nasib",
    "nascore.methods.auto_meta",
    "nascore.methods.baselines",
)

METHODS: dict[str, Method] = {
    name: method
    for package in PACKAGES
    for name, method in importlib.import_module(f"{package}.entry").METHODS.items()
}
