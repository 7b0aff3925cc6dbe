"""What network policies allow, by the rules of the Kubernetes API reference (NetworkPolicy v1).

A pod that no policy selects for a direction is open in it; one that is selected may do what any of
these policies names. Both ends must allow a connection; ports are those of pods, after the address
of a service was replaced.
"""

from collections.abc import Iterator
from ipaddress import ip_address, ip_network

from manifest_labels import Pod
from manifest_objects import Object


def matches(selector: Object, labels: dict[str, str]) -> bool:
    """Whether a label selector matches; an empty one matches everything."""
    if not selector.get("matchLabels", {}).items() <= labels.items():
        return False
    for term in selector.get("matchExpressions", []):
        has, values = term["key"] in labels, term.get("values", [])
        operator, value = term["operator"], labels.get(term["key"])
        right = {
            "Exists": has,
            "DoesNotExist": not has,
            "In": has and value in values,
            "NotIn": not has or value not in values,
        }
        if not right[operator]:
            return False
    return True


def selecting(objects: list[Object], pod: Pod, way: str = "") -> Iterator[Object]:
    """The policies that select a pod, for `Ingress` or `Egress` alone if that is named."""
    for one in objects:
        if one["kind"] != "NetworkPolicy" or one["metadata"]["namespace"] != pod.namespace:
            continue
        if way in ("", *one["spec"]["policyTypes"]) and matches(
            one["spec"]["podSelector"], pod.labels
        ):
            yield one


def allowed(
    objects: list[Object], source: Pod, target: Pod | str, port: int, protocol: str = "TCP"
) -> bool:
    """Whether a connection to a pod, or to an address outside of all pods, may be made."""
    if not _passes(objects, source, "Egress", target, port, protocol):
        return False
    return isinstance(target, str) or _passes(objects, target, "Ingress", source, port, protocol)


def _passes(
    objects: list[Object], pod: Pod, way: str, other: Pod | str, port: int, protocol: str
) -> bool:
    policies = list(selecting(objects, pod, way))
    end = {"Egress": "to", "Ingress": "from"}[way]
    return not policies or any(
        any(_is_peer(peer, pod.namespace, other) for peer in rule[end])
        and any(
            (named["port"], named.get("protocol", "TCP")) == (port, protocol)
            for named in rule["ports"]
        )
        for policy in policies
        for rule in policy["spec"].get(way.lower(), [])
    )


def _is_peer(peer: Object, namespace: str, other: Pod | str) -> bool:
    if "ipBlock" in peer:
        block = peer["ipBlock"]
        # Network plugins know pods by their identity: an ipBlock is for what is no pod.
        return isinstance(other, str) and (
            ip_address(other) in ip_network(block["cidr"])
            and not any(ip_address(other) in ip_network(one) for one in block.get("except", []))
        )
    if isinstance(other, str):
        return False
    if "namespaceSelector" in peer:
        right = matches(peer["namespaceSelector"], other.labels_of_namespace)
    else:
        right = other.namespace == namespace
    return right and matches(peer.get("podSelector", {}), other.labels)
