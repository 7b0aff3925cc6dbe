"""What network policies, services and budgets must hold to: each rule names offences."""

from collections.abc import Iterator

from manifest_objects import SERVICES, Object, named, pods

_NAME = "app.kubernetes.io/name"

# Labels of pods and namespaces that others make; the rest must exist in the same overlay.
OTHERS_LABELS = {
    ("pipeline/runid", None),  # KFP: pods of a run
    ("k8s-app", "kube-dns"),
    ("dns.operator.openshift.io/daemonset-dns", "default"),
    ("kubernetes.io/metadata.name", "openshift-dns"),
    ("kubernetes.io/metadata.name", "kube-system"),
    ("kubernetes.io/metadata.name", "kubeflow"),
    ("app", "seaweedfs"),  # KFP's object store, API and metadata
    ("app", "minio"),
    ("app", "ml-pipeline"),
    ("component", "metadata-grpc-server"),  # the label `app` it has not (finding C2)
}


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
    if any(one["kind"] == "Namespace" for one in objects) and not any(
        one["spec"] == closed for one in policies
    ):
        yield "there is no policy that denies all in a namespace of our own"
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
        template["metadata"]["labels"][_NAME]: {
            port["containerPort"]
            for one in template["spec"]["containers"]
            for port in one.get("ports", [])
        }
        for _, template in pods(objects)
    }
    for one in objects:
        for rule in one["spec"].get("egress", []) if one["kind"] == "NetworkPolicy" else []:
            for peer in rule["to"]:
                name = peer.get("podSelector", {}).get("matchLabels", {}).get(_NAME)
                wrong = {p["port"] for p in rule["ports"]} - listening.get(name, set())
                if name is not None and wrong:
                    yield f"{named(one)}: {name} does not listen on {sorted(wrong)}"


def shared(objects: list[Object]) -> Iterator[str]:
    """Where others have pods, too, nothing reaches all pods of the namespace (finding C5)."""
    for one in objects:
        if one["kind"] in ("Namespace", "ResourceQuota", "LimitRange", "CiliumNetworkPolicy"):
            yield f"{named(one)} would hold for pods of others"
        if any(not selector for selector in _selectors(one)):
            yield f"{named(one)} selects every pod"
        if one["kind"] == "NetworkPolicy":
            wanted = one["spec"]["podSelector"].get("matchLabels", {})
            if not {_NAME, "app.kubernetes.io/instance"} & set(wanted):
                yield f"{named(one)} does not select pods of ours by name"
