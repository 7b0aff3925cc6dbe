"""Shell completion of settings: keys of `--set`, and values where there is a fixed set of them."""

from collections.abc import Callable, Iterable
from typing import Any

import click
from click.shell_completion import BashComplete, CompletionItem, ZshComplete, add_completion_class

PRESETS = ("quick", "paper")
_NO_WORDS = ("int", "float", "str", "Path", "null")  # parts of a type that are not its values
Items = list[CompletionItem[str]]


def complete_setting(context: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    """Complete `key.path=value`: the key, then a value of a fixed set."""
    key, equals, _ = incomplete.partition("=")
    rows = _rows(context)
    if equals:
        return _starting(incomplete, (f"{key}={value}" for value in _values(key, rows)))
    found = {f"{name}=": row["description"] for name, row in rows.items()}
    return [CompletionItem(text, help=found[text]) for text in found if text.startswith(incomplete)]


def complete_value(key: str) -> Callable[[click.Context, click.Parameter, str], Items]:
    """Return a function that completes the value of one setting."""

    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
        return _starting(incomplete, _values(key, _rows(context)))

    return complete


def complete_preset(context: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    """Complete the name of a preset."""
    return _starting(incomplete, PRESETS)


def _starting(incomplete: str, values: Iterable[str]) -> Items:
    return [CompletionItem(value) for value in values if value.startswith(incomplete)]


def _rows(context: click.Context) -> dict[str, dict[str, Any]]:
    """Return the settings by key, with the options of the method that the command names so far."""
    from components.config.schema import DEFAULT_METHOD
    from nascore.methods.registry import METHODS
    from pipelines.commands.setting_list import settings_of

    named = [*(context.params.get("shortcut_method") or ())]
    named += [setting.partition("method=")[2] for setting in context.params.get("settings") or ()]
    method = next((name for name in named if name in METHODS), DEFAULT_METHOD)
    return {row["key"]: row for row in settings_of([method])}


def _values(key: str, rows: dict[str, dict[str, Any]]) -> list[str]:
    """Return the values that a setting may have, where these are words."""
    from nascore.methods.registry import METHODS

    if key == "method":
        return list(METHODS)
    parts = rows[key]["type"].split("|") if key in rows else []
    words = [part for part in parts if part not in _NO_WORDS and " " not in part]
    return ["true", "false"] if words == ["bool"] else words


class _Bash(BashComplete):
    """bash, which divides `key=value` into three words and completes the last one."""

    # No space after `key=`: the value follows.
    source_template = BashComplete.source_template.replace(
        "COMPREPLY+=($value)", "COMPREPLY+=($value); [[ $value == *= ]] && compopt -o nospace"
    )
    _prefix = ""

    def get_completion_args(self) -> tuple[list[str], str]:
        args, incomplete = super().get_completion_args()
        words: list[str] = []
        is_value = False  # the word before is `key=`
        for word in [*args, *([] if incomplete == "=" else [incomplete])]:
            if is_value or (word == "=" and not words[-1].startswith("-")):
                words[-1] += word
                is_value = word == "="
            elif word != "=":
                words.append(word)
        if incomplete == "=":
            words += [""] if words[-1].startswith("-") else [f"{words.pop()}="]
        key, equals, _ = words[-1].partition("=")
        self._prefix = key + equals if equals else ""
        return words[:-1], words[-1]

    def format_completion(self, item: CompletionItem[Any]) -> str:
        return f"{item.type},{str(item.value).removeprefix(self._prefix)}"


class _Zsh(ZshComplete):
    """zsh, which has to be asked for no space after `key=`."""

    source_template = ZshComplete.source_template.replace(
        '            if [[ "$descr" == "_" ]]; then\n',
        '            if [[ "$key" == *= ]]; then\n'
        "                compadd -U -S '' -V unsorted -- \"$key\"\n"
        '            elif [[ "$descr" == "_" ]]; then\n',
    )


add_completion_class(_Bash)
add_completion_class(_Zsh)
