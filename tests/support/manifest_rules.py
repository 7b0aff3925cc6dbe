"""What every manifest must hold to: each rule takes the objects of one overlay, names offences."""

import re
from collections.abc import Callable, Iterator

import kubernetes_validate
from manifest_objects import SERVICES, WORKLOADS, Object, containers, named, pods

NO_SCHEMA: frozenset[str] = frozenset()
"""APIVERSION/KIND of custom resources, which nobody can validate here."""

SUPPORTED = ("1.32", "1.37")
"""Versions of Kubernetes: the oldest that is looked at, and the newest that is known."""

# Labels of pods and namespaces that others make; the rest must exist in the same overlay.
OTHERS_LABELS = {
    ("pipeline/runid", None),  # KFP: pods of a run
    ("k8s-app", "kube-dns"),
    ("kubernetes.io/metadata.name", "kube-system"),
    ("kubernetes.io/metadata.name", "kubeflow"),
    ("app", "seaweedfs"),  # KFP's object store, API and metadata
    ("app", "ml-pipeline"),
    ("component", "metadata-grpc-server"),  # the label `app` it has not (finding C2)
}
_NAMES = ("app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/managed-by")
_DIGEST = re.compile(r"^[^@]+@sha256:[0-9a-f]{64}$")
_VERSION = re.compile(r"^[^@]+:v?\d+\.\d+\.\d+[\w.-]*$")


# --- the rules ------------------------------------------------------------------------------


def schemas(objects: list[Object]) -> Iterator[str]:
    """Nothing that the API does not know, neither field nor kind."""
    for one in objects:
        for version in SUPPORTED:
            try:
                kubernetes_validate.validate(one, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                yield f"{named(one)}: {version}: {error.message}"
            except kubernetes_validate.SchemaNotFoundError:
                if f"{one['apiVersion']}/{one['kind']}" not in NO_SCHEMA:
                    yield f"{named(one)}: {version} knows no {one['apiVersion']}"


def kinds(objects: list[Object]) -> Iterator[str]:
    """No secrets in git; no pods that the other rules do not see; schedules are KFP's."""
    for one in objects:
        if one["kind"] in ("Secret", "Pod", "CronJob", "DaemonSet", "ReplicaSet"):
            yield f"{named(one)} is not wanted here"


def labels(objects: list[Object]) -> Iterator[str]:
    for one in objects:
        missing = [name for name in _NAMES if name not in one["metadata"].get("labels", {})]
        if missing and one["kind"] != "ConfigMap":  # those that kustomize generates have no name
            yield f"{named(one)} lacks {missing}"


def restricted(objects: list[Object]) -> Iterator[str]:
    """The restricted profile of pod security, and a root file system that nobody writes to."""
    for one in objects:
        label = "pod-security.kubernetes.io/enforce"
        if one["kind"] == "Namespace" and one["metadata"]["labels"].get(label) != "restricted":
            yield f"{named(one)} does not enforce the restricted profile"
    for name, one, spec in containers(objects):
        pod, own = spec.get("securityContext", {}), one.get("securityContext", {})
        both = {**pod, **own}
        wanted = {
            "runAsNonRoot": True,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "seccompProfile": {"type": "RuntimeDefault"},
            "capabilities": {"drop": ["ALL"]},
        }
        yield from (
            f"{name}: {key} must be {value}"
            for key, value in wanted.items()
            if both.get(key) != value
        )
        if not both.get("runAsUser"):
            yield f"{name}: runAsUser must be a number other than 0"
        for key in ("hostNetwork", "hostPID", "hostIPC", "privileged"):
            if spec.get(key) or own.get(key):
                yield f"{name}: {key}"
    for name, template in pods(objects):
        for volume in template["spec"].get("volumes", []):
            if set(volume) - {"name", "emptyDir", "configMap", "persistentVolumeClaim"}:
                yield f"{name}: volume {volume['name']} is of a kind that is not wanted"


def resources(objects: list[Object]) -> Iterator[str]:
    for name, one, _ in containers(objects):
        for which in ("requests", "limits"):
            for what in ("cpu", "memory"):
                if what not in one.get("resources", {}).get(which, {}):
                    yield f"{name}: no {which}.{what}"
        probes = {"startupProbe", "readinessProbe", "livenessProbe"} - set(one)
        if probes and not name.startswith("Job/"):
            yield f"{name}: no {sorted(probes)}"


def jobs(objects: list[Object]) -> Iterator[str]:
    """A Job ends, says so by its status, and is gone before the next image is applied."""
    for one in objects:
        if one["kind"] != "Job":
            continue
        if one["spec"]["template"]["spec"].get("restartPolicy") != "Never":
            yield f"{named(one)}: restarts its container, whose log is lost"
        for limit in ("backoffLimit", "ttlSecondsAfterFinished"):
            if limit not in one["spec"]:
                yield f"{named(one)}: no {limit}"


def volumes(objects: list[Object]) -> Iterator[str]:
    """A volume, which comes root-owned, is handed over to the group of the pod that mounts it."""
    claims = {one["metadata"]["name"] for one in objects if one["kind"] == "PersistentVolumeClaim"}
    for one in objects:
        template = one["spec"]["template"] if one["kind"] in WORKLOADS else {"spec": {}}
        mounted = [
            volume["persistentVolumeClaim"]["claimName"]
            for volume in template["spec"].get("volumes", [])
            if "persistentVolumeClaim" in volume
        ]
        if mounted or "volumeClaimTemplates" in one.get("spec", {}):
            yield from _handed_over(named(one), template["spec"])
        yield from (f"{named(one)}: there is no claim {name}" for name in set(mounted) - claims)


def _handed_over(name: str, spec: Object) -> Iterator[str]:
    security = spec.get("securityContext", {})
    if not security.get("fsGroup") or security.get("fsGroup") != security.get("runAsGroup"):
        yield f"{name}: fsGroup is not the group of the pod"
    if security.get("fsGroupChangePolicy") != "OnRootMismatch":
        yield f"{name}: changes the owner of every file at each start"


def images(objects: list[Object]) -> Iterator[str]:
    """A digest, or the tag of one version."""
    for name, one, _ in containers(objects):
        if not (_DIGEST.match(one["image"]) or _VERSION.match(one["image"])):
            yield f"{name}: {one['image']} may be another image tomorrow"


def digests(objects: list[Object]) -> Iterator[str]:
    """Where it matters, digests alone."""
    for name, one, _ in containers(objects):
        if not _DIGEST.match(one["image"]):
            yield f"{name}: {one['image']} has no digest"


def tokens(objects: list[Object]) -> Iterator[str]:
    """The token of an account is not mounted, and accounts that have rights are those of steps."""
    for name, template in pods(objects):
        spec = template["spec"]
        if spec.get("automountServiceAccountToken") is not False:
            yield f"{name}: mounts the token of its account"
        if not any(
            one["kind"] == "ServiceAccount"
            and one["metadata"]["name"] == spec.get("serviceAccountName")
            for one in objects
        ):
            yield f"{name}: has no account of its own"
    for one in objects:
        if one["kind"] in ("ClusterRole", "ClusterRoleBinding"):
            yield f"{named(one)} reaches beyond the namespace"
        if one["kind"] == "RoleBinding":
            for subject in one["subjects"]:
                if subject["name"] != "nas-steps":
                    yield f"{named(one)} gives rights to {subject['name']}"
        for rule in one["rules"] if one["kind"] == "Role" else []:
            yield from _rights(named(one), rule)


def _rights(role: str, rule: Object) -> Iterator[str]:
    if "*" in [*rule["verbs"], *rule["resources"], *rule["apiGroups"]]:
        yield f"{role}: * is too much"
    if {"secrets", "configmaps"} & set(rule["resources"]) and not rule.get("resourceNames"):
        yield f"{role}: may read every one of {rule['resources']}"
    if {"pods/exec", "serviceaccounts/token"} & set(rule["resources"]):
        yield f"{role}: may use {rule['resources']}"


def selectors(objects: list[Object]) -> Iterator[str]:
    """What a policy, service or budget selects is there."""
    existing = [template["metadata"]["labels"] for _, template in pods(objects)]
    for one in objects:
        for selector in _selectors(one):
            wanted = dict(selector.get("matchLabels", {}))
            known = all(pair in OTHERS_LABELS for pair in wanted.items())
            if wanted and not known and not any(wanted.items() <= has.items() for has in existing):
                yield f"{named(one)} selects {wanted}, which no pod has"
            for term in selector.get("matchExpressions", []):
                for value in term.get("values", [None]):
                    pair = (term["key"], value)
                    if pair not in OTHERS_LABELS and not any(
                        pair in has.items() for has in existing
                    ):
                        yield f"{named(one)} selects {pair}, which no pod has"


def _selectors(one: Object) -> Iterator[Object]:
    spec = one.get("spec", {})
    if one["kind"] == "Service":
        yield {"matchLabels": spec["selector"]}
    if one["kind"] in (*SERVICES, "PodDisruptionBudget"):
        yield spec["selector"]
    if one["kind"] == "NetworkPolicy":
        yield spec["podSelector"]
        for way, end in (("ingress", "from"), ("egress", "to")):
            for rule in spec.get(way, []):
                for peer in rule[end]:
                    yield from (
                        peer[key] for key in ("podSelector", "namespaceSelector") if key in peer
                    )


def sidecars(objects: list[Object]) -> Iterator[str]:
    """No pod of ours gets Istio's proxy, which Kubeflow's profiles inject (finding C6)."""
    for owner, template in pods(objects):
        if template["metadata"].get("labels", {}).get("sidecar.istio.io/inject") != "false":
            yield f"{owner}: its pods may get a proxy"


def borders(objects: list[Object]) -> Iterator[str]:
    """Nothing passes unless it is named, and what is named is a place and a port."""
    policies = [one for one in objects if one["kind"] == "NetworkPolicy"]
    closed = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    if not any(one["spec"] == closed for one in policies):
        yield "there is no policy that denies all"
    for one in policies:
        for way, end in (("ingress", "from"), ("egress", "to")):
            for rule in one["spec"].get(way, []):
                if not rule.get(end) or not rule.get("ports"):
                    yield f"{named(one)}: {way} from or to everywhere, or by every port"
                if {} in rule.get(end, []):
                    yield f"{named(one)}: {way} of everybody"


def ports(objects: list[Object]) -> Iterator[str]:
    """Policies for our own pods name a port that the pod listens on."""
    listening = {
        template["metadata"]["labels"]["app.kubernetes.io/name"]: {
            port["containerPort"]
            for one in template["spec"]["containers"]
            for port in one.get("ports", [])
        }
        for _, template in pods(objects)
    }
    for one in objects:
        for rule in one["spec"].get("egress", []) if one["kind"] == "NetworkPolicy" else []:
            for peer in rule["to"]:
                name = peer.get("podSelector", {}).get("matchLabels", {}).get(_NAMES[0])
                wrong = {p["port"] for p in rule["ports"]} - listening.get(name, set())
                if name is not None and wrong:
                    yield f"{named(one)}: {name} does not listen on {sorted(wrong)}"


def references(objects: list[Object]) -> Iterator[tuple[str, str, str]]:
    """Container, NAME and KEY of every Secret and ConfigMap that an environment is made of."""
    for name, one, _ in containers(objects):
        assert "envFrom" not in one, f"{name}: a secret as a whole"
        for variable in one.get("env", []):
            for kind in ("secretKeyRef", "configMapKeyRef"):
                reference = variable.get("valueFrom", {}).get(kind)
                if reference:
                    yield name, reference["name"], reference["key"]


def own_maps(objects: list[Object]) -> Iterator[str]:
    """ConfigMaps that are mounted or read are among the objects."""
    maps = {one["metadata"]["name"]: one["data"] for one in objects if one["kind"] == "ConfigMap"}
    for name, template in pods(objects):
        for volume in template["spec"].get("volumes", []):
            if "configMap" in volume and volume["configMap"]["name"] not in maps:
                yield f"{name}: there is no ConfigMap {volume['configMap']['name']}"
    for name, one, _ in containers(objects):
        for variable in one.get("env", []):
            reference = variable.get("valueFrom", {}).get("configMapKeyRef")
            if reference and reference["key"] not in maps.get(reference["name"], {}):
                yield f"{name}: there is no {reference['name']}/{reference['key']}"


RULES: tuple[Callable[[list[Object]], Iterator[str]], ...] = (
    schemas,
    kinds,
    labels,
    restricted,
    resources,
    jobs,
    volumes,
    images,
    tokens,
    selectors,
    sidecars,
    borders,
    ports,
    own_maps,
)
