"""The `nas` command. It starts fast: each command is imported when it is called.

Exit status: 0 done, 1 the run failed, 2 the input is wrong (one message with every problem).
"""

import codecs
import locale
import os
import sys

import click

from nascore.home import ensure_home
from pipelines.commands.lazy_group import Later, LazyGroup

_LATER = {
    "bench": Later("commands.bench_commands:bench", "Replay a table: many seeds of each method."),
    "cancel": Later("commands.cancel:cancel", "Stop a run on Kubeflow.", is_for_client=True),
    "check-data": Later("commands.check_data:check_data", "Check a data set."),
    "clean-state": Later("commands.clean_state:clean_state", "Remove old states of runs."),
    "compile": Later(
        "commands.compile:compile_command", "Write the pipeline as KFP's IR YAML.", True
    ),
    "config": Later("commands.config:config", "List every setting, with default.", True),
    "diagnose": Later("commands.diagnose:diagnose", "Examine the controller of a run."),
    "doctor": Later("commands.doctor:doctor", "Check this machine, or a cluster.", True),
    "logs": Later("commands.logs:logs", "Print the log of a step on Kubeflow.", True),
    "plan": Later("commands.plan:plan", "Print what a search does with its budget."),
    "profile": Later("commands.profile:profile", "Measure a latency table here."),
    "retrain": Later("commands.run:retrain", "Train the champion's architecture on new data."),
    "retry": Later("commands.retry:retry", "Continue a run on Kubeflow that has failed.", True),
    "rollback": Later("commands.rollback:rollback", "Make the previous champion champion again."),
    "run": Later("commands.run:run", "Search, train, profile and register a network here."),
    "schedule": Later(
        "commands.schedule_delete:schedule", "Start runs on Kubeflow at fixed times.", True
    ),
    "status": Later("commands.submit:status", "Print the state of a run on Kubeflow.", True),
    "submit": Later("commands.submit:submit", "Compile the pipeline; run it on Kubeflow.", True),
    "ui": Later("commands.ui:ui", "Open the MLflow UI on the runs of this folder."),
}


@click.group(
    cls=LazyGroup,
    later=_LATER,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="nas-pipelines")
def main() -> None:
    """Neural architecture search: from your data to a registered network.

    Start with `nas run`: without arguments it searches on small images, in a few minutes.
    """
    _ensure_utf8()
    ensure_home()


def _ensure_utf8() -> None:
    """Start the command again in Python's UTF-8 mode where the locale has another encoding.

    Files of a run are UTF-8, and its texts may have characters that the locale lacks.
    """
    if sys.flags.utf8_mode or codecs.lookup(locale.getencoding()).name == "utf-8":
        return
    os.environ["PYTHONUTF8"] = "1"  # for the processes of the run, too
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


if __name__ == "__main__":
    main()
