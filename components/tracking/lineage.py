"""Tags that link a model to the data, the code and the run that it came from.

The pipeline's run and the model version have the same tags; docs/tracking.md lists them.
`prepare_data` collects those of the whole run and writes them to `lineage.json` next to the data;
`promote` adds those of the result. Code and image are those of the process that asks, so that a
step that is retried after an upgrade has those of the new version.
"""

import getpass
import hashlib
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import nascore
from components.config.schema import Config
from nascore.data.file_access import S3
from nascore.genotype import Genotype
from nascore.redaction import redact

FILE = "lineage.json"

METHOD = "nas.method"
KFP_RUN_ID = "nas.kfp_run_id"
PIPELINE = "nas.pipeline"
VERSION = "nas.version"
GIT_REVISION = "nas.git_revision"
IMAGE = "nas.image"
GENOTYPE = "nas.genotype"
NETWORK = "nas.network"
"""`found`, `control`, or the name of a standard network."""
MODEL_URI = "nas.model_uri"
CHAMPION_RUN_ID = "nas.champion_run_id"

COMMAND = "NAS_COMMAND"
"""Environment variable with the command that runs a pipeline on this machine."""

_SOURCE, _SOURCE_TYPE = "mlflow.source.name", "mlflow.source.type"
_COMMIT, _USER = "mlflow.source.git.commit", "mlflow.user"
_GIT_TIMEOUT_S = 5.0


def of_run(
    config: Config, *, data_sha256: str, source_sha256: str | None, job_name: str
) -> dict[str, str]:
    """Return the tags of all steps of a pipeline run, without secrets.

    Args:
        data_sha256: of the prepared data's contents.
        source_sha256: of the listing of a remote source; None for a local one.
        job_name: name of the run in Kubeflow.
    """
    tags = {
        METHOD: config.method,
        "nas.seed": str(config.seed),
        "nas.data_source": redact(_with_full_path(config.data.source)),
        "nas.data_sha256": data_sha256,
        "nas.space": config.search.space.name,
        "nas.space_sha256": space_sha256(config),
        "nas.kfp_job": job_name,
    }
    if source_sha256 is not None:
        tags["nas.source_sha256"] = source_sha256
    return tags | of_kfp() | of_code()


def _with_full_path(source: str) -> str:
    """Return a data source with an absolute path, which means the same in any folder."""
    kind, _, path = source.partition(":")
    if not path or path.startswith(S3):
        return source
    return f"{kind}:{Path(path).expanduser().resolve()}"


def of_kfp() -> dict[str, str]:
    """Return what Kubeflow calls the run; a run that ends early must have it, to be found."""
    return _given({KFP_RUN_ID: "NAS_RUN_ID", PIPELINE: "NAS_PIPELINE"})


def of_code() -> dict[str, str]:
    """Return version, git revision and image of this process, as far as they are known.

    An image has its revision in `NAS_GIT_REVISION`; that of a working tree is read from git, with
    `-dirty` at the end when tracked files have been changed.
    """
    tags = {VERSION: nascore.__version__}
    tags |= _given({GIT_REVISION: "NAS_GIT_REVISION", IMAGE: "NAS_IMAGE"})
    if GIT_REVISION not in tags:
        revision = _revision_of(_tree())
        tags |= {} if revision is None else {GIT_REVISION: revision}
    return tags


def of_source(step: str | None = None) -> dict[str, str]:
    """Return MLflow's tags for the source of a run: what started it, git commit and user.

    Args:
        step: name of the step that the run belongs to; None for the run of the pipeline.
    """
    tags: dict[str, str] = {}
    pipeline, command = os.environ.get("NAS_PIPELINE"), os.environ.get(COMMAND)
    if pipeline:
        tags |= {_SOURCE: f"{pipeline}/{step}" if step else pipeline, _SOURCE_TYPE: "JOB"}
    elif command:
        tags |= {_SOURCE: command, _SOURCE_TYPE: "LOCAL"} | _user()
    commit = os.environ.get("NAS_GIT_REVISION") or _commit_of(_tree())
    return tags | ({_COMMIT: commit.removesuffix("-dirty")} if commit else {})


def of_genotype(genotype: Genotype) -> dict[str, str]:
    """Return the architecture as one word, and its hash."""
    tokens = "-".join(str(token) for token in genotype.tokens)
    return {GENOTYPE: f"{genotype.space}:{tokens}", "nas.genotype_sha256": genotype.hash}


def space_sha256(config: Config) -> str:
    """Return the hash of all settings of the search space: equal ones hold the same networks."""
    settings = config.search.space.model_dump_json()
    return hashlib.sha256(settings.encode()).hexdigest()


def _given(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the tags whose environment variables are set."""
    return {tag: os.environ[name] for tag, name in variables.items() if os.environ.get(name)}


def _user() -> dict[str, str]:
    try:
        return {_USER: getpass.getuser()}
    except (KeyError, OSError):  # an account without a name, as containers have
        return {}


def _tree() -> Path:
    """Return the folder that holds this code."""
    return Path(nascore.__file__).parent.parent


def _revision_of(tree: Path) -> str | None:
    """Return the git revision of a checkout; None for an installed package."""
    revision = _commit_of(tree)
    try:
        is_changed = revision and _git(tree, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{revision}-dirty" if is_changed else revision


def _commit_of(tree: Path) -> str | None:
    if not (tree / ".git").exists():
        return None
    try:
        return _git(tree, "rev-parse", "HEAD")
    except (OSError, subprocess.SubprocessError):  # no git, or a repository of another owner
        return None


def _git(tree: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(tree), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_GIT_TIMEOUT_S,
        check=True,
    )
    return done.stdout.strip()
