"""Choice of the Kubernetes API: that of the kubeconfig, or of the cluster in which this runs."""

import os
from collections.abc import Mapping
from pathlib import Path

from nascore.errors import InputError
from pipelines.kubeflow.doctor.client import Kube, open_client, short

KUBECONFIG = "KUBECONFIG"
CONTEXT, KUBEFLOW_NAMESPACE = "NAS_KUBE_CONTEXT", "NAS_KUBEFLOW_NAMESPACE"
"""Environment variables with a context, and with the namespace of Kubeflow Pipelines."""
_HOME = Path("~/.kube/config")
_POD = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def connect(
    context: str | None = None,
    *,
    timeout_s: float = 10.0,
    environment: Mapping[str, str] = os.environ,
    pod: Path = _POD,
) -> Kube | None:
    """Return the cluster of the kubeconfig, else the one that this pod runs in, else None.

    Args:
        context: context of the kubeconfig; None for the current one.
        timeout_s: longest wait for one answer.
        environment: names the kubeconfig and the server of a pod.
        pod: folder with the account of a pod.

    Raises:
        InputError: the kubeconfig cannot be used, or has no such context.
    """
    files = _kubeconfigs(environment)
    if not files and context is not None:
        message = f"there is no kubeconfig; make {_HOME}, or set {KUBECONFIG}"
        raise InputError.of("--kube-context", context, message)
    if files:
        return _of_kubeconfig(files, context, timeout_s)
    if "KUBERNETES_SERVICE_HOST" in environment and (pod / "token").is_file():
        return _of_pod(environment, pod, timeout_s)
    return None


def _kubeconfigs(environment: Mapping[str, str]) -> list[Path]:
    named = environment.get(KUBECONFIG)
    paths = [Path(one) for one in named.split(os.pathsep) if one] if named else [_HOME]
    return [path for path in (path.expanduser() for path in paths) if path.exists()]


def _of_kubeconfig(files: list[Path], context: str | None, timeout_s: float) -> Kube:
    import yaml
    from kubernetes import config  # type: ignore[import-untyped]
    from kubernetes.client import Configuration  # type: ignore[import-untyped]

    given = os.pathsep.join(map(str, files))
    settings = Configuration()
    try:
        contexts, active = config.list_kube_config_contexts(given)
        names = [each["name"] for each in contexts]
        if context is not None and context not in names:
            message = f"is no context of {given}; there are: {', '.join(names)}"
            raise InputError.of("--kube-context", context, message)
        config.load_kube_config(given, context=context, client_configuration=settings)
        client = open_client(settings)
    except (config.ConfigException, yaml.YAMLError, OSError, ValueError, KeyError) as error:
        raise _unusable(given, error) from None
    except (TypeError, AttributeError) as error:  # the package does not check the form of the file
        raise _unusable(given, error) from None
    chosen = next(each for each in contexts if each["name"] == (context or active["name"]))
    return Kube(
        client,
        context=context,
        place=f"the Kubernetes API of context {chosen['name']}",
        namespace=chosen["context"].get("namespace"),
        timeout_s=timeout_s,
    )


def _of_pod(environment: Mapping[str, str], pod: Path, timeout_s: float) -> Kube:
    from kubernetes.client import Configuration
    from kubernetes.config import ConfigException  # type: ignore[import-untyped]
    from kubernetes.config.incluster_config import (  # type: ignore[import-untyped]
        InClusterConfigLoader,
    )

    settings = Configuration()
    files = {"token_filename": str(pod / "token"), "cert_filename": str(pod / "ca.crt")}
    try:
        InClusterConfigLoader(**files, environ=environment).load_and_set(settings)
        client = open_client(settings)
    except (ConfigException, OSError) as error:
        raise _unusable(str(pod), error) from None
    namespace = pod / "namespace"
    return Kube(
        client,
        context=None,
        place="the Kubernetes API of this pod's cluster",
        namespace=namespace.read_text().strip() if namespace.is_file() else None,
        timeout_s=timeout_s,
        is_pod=True,
    )


def _unusable(files: str, error: Exception) -> InputError:
    message = (
        f"cannot be used ({short(str(error)) or type(error).__name__}); see kubectl config view"
    )
    return InputError.of("kubeconfig", files, message)
