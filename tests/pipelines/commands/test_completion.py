"""Shell completion of settings and of the options that stand for them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

NAS = [sys.executable, "-c", "from pipelines.cli import main; main(prog_name='nas')"]


def complete(words: str, place: int, shell: str = "bash") -> list[str]:
    """The answer to a shell whose word at `place` is incomplete."""
    asked = {
        "_NAS_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(place),
    }
    done = subprocess.run(NAS, capture_output=True, text=True, env={**os.environ, **asked})
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("words", "place", "found"),
    [
        ("nas run --set training.dev", 3, ["training.device=", "training.devices="]),
        # bash divides a word at the equals sign
        ("nas run --set training.device =", 4, ["auto", "cpu", "cuda"]),
        ("nas run --set training.device = c", 5, ["cpu", "cuda"]),
        ("nas run --set = training.device = cp", 6, ["cpu"]),
        ("nas run --set training.flip = ", 5, ["true", "false"]),
        ("nas run --method nasi", 3, ["nasib"]),
        ("nas run --method = nasi", 4, ["nasib"]),
        ("nas submit --objective b", 3, ["balanced_accuracy"]),
        ("nas run --method tpe --set search.options.", 5, ["search.options.startup_trials="]),
        ("nas run --set method = tpe --set search.options.", 7, ["search.options.startup_trials="]),
        ("nas check-data x --set data.split_b", 4, ["data.split_by="]),
        ("nas run --preset p", 3, ["paper"]),
    ],
)
def test_settings_are_completed(words: str, place: int, found: list[str]) -> None:
    assert complete(words, place) == [f"plain,{value}" for value in found]


def test_zsh_keeps_a_setting_in_one_word() -> None:
    values = complete("nas run --set training.device=c", 3, "zsh")
    assert values[1::3] == ["training.device=cpu", "training.device=cuda"]
    key, description = complete("nas run --set training.device", 3, "zsh")[1:3]
    assert key == "training.device="
    assert description.startswith("Device of the search")


def test_bash_itself_completes_a_value(tmp_path: Path) -> None:
    (tmp_path / "nas").write_text(f"#!{sys.executable}\nfrom pipelines.cli import main\nmain()\n")
    (tmp_path / "nas").chmod(0o755)
    script = (
        'eval "$(_NAS_COMPLETE=bash_source nas)"\n'
        "COMP_WORDS=(nas run --set training.device = c); COMP_CWORD=5; _nas_completion nas\n"
        'echo "${COMPREPLY[@]}"'
    )
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert done.stdout == "cpu cuda\n", done.stderr
