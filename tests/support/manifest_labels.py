"""Pods of Kubeflow by their labels and ports, as its own manifests make them.

Read in kubeflow/pipelines at tag 2.17.0 (`kubectl kustomize` of env/platform-agnostic-multi-user
with Argo Workflows 4.0.5), MinIO at tag 2.15.0; `source` is the file there. Kustomize adds
`application-crd-id` to every pod, and `app.kubernetes.io/name` and `component` to KFP's own.
"""

from dataclasses import dataclass, field

_CRD = {"application-crd-id": "kubeflow-pipelines"}
_KFP = _CRD | {
    "app.kubernetes.io/component": "ml-pipeline",
    "app.kubernetes.io/name": "kubeflow-pipelines",
}
_NO_PROXY = {"sidecar.istio.io/inject": "false"}
_BASE = "manifests/kustomize/base"
_THIRD = "manifests/kustomize/third-party"
# By the profile controller of kubeflow/kubeflow (components/profile-controller).
PROFILE_LABELS = {
    "app.kubernetes.io/part-of": "kubeflow-profile",
    "istio-injection": "enabled",
    "pipelines.kubeflow.org/enabled": "true",
}


@dataclass(frozen=True)
class Pod:
    """A pod as policies see it.

    Attributes:
        ports: TCP ports that its containers listen on.
        source: file of kubeflow/pipelines that makes it.
        namespace_labels: further labels of its namespace.
    """

    labels: dict[str, str]
    namespace: str = "kubeflow"
    ports: tuple[int, ...] = ()
    source: str = ""
    ip: str = "10.244.1.7"
    namespace_labels: dict[str, str] = field(default_factory=dict)

    @property
    def labels_of_namespace(self) -> dict[str, str]:
        return {"kubernetes.io/metadata.name": self.namespace, **self.namespace_labels}


def _app(name: str, source: str, *ports: int, of: dict[str, str] = _KFP) -> tuple[str, Pod]:
    return name, Pod({"app": name, **of}, ports=ports, source=source)


def _component(name: str, more: dict[str, str], *ports: int) -> tuple[str, Pod]:
    source = f"{_BASE}/metadata/base/{name.removesuffix('-server')}-deployment.yaml"
    return name, Pod({"component": name, **more}, ports=ports, source=source)


KFP_PODS: dict[str, Pod] = dict(
    [
        _app("ml-pipeline", f"{_BASE}/pipeline/ml-pipeline-apiserver-deployment.yaml", 8888, 8887),
        _app(
            "ml-pipeline-persistenceagent",
            f"{_BASE}/pipeline/ml-pipeline-persistenceagent-deployment.yaml",
        ),
        _app(
            "ml-pipeline-scheduledworkflow",
            f"{_BASE}/pipeline/ml-pipeline-scheduledworkflow-deployment.yaml",
            9090,
        ),
        _app("ml-pipeline-ui", f"{_BASE}/pipeline/ml-pipeline-ui-deployment.yaml", 3000),
        _app("ml-pipeline-viewer-crd", f"{_BASE}/pipeline/ml-pipeline-viewer-crd-deployment.yaml"),
        _app(
            "ml-pipeline-visualizationserver",
            f"{_BASE}/pipeline/ml-pipeline-visualization-deployment.yaml",
            8888,
        ),
        _app(
            "metadata-writer", f"{_BASE}/pipeline/metadata-writer/metadata-writer-deployment.yaml"
        ),
        _app("cache-server", f"{_BASE}/cache/cache-deployment.yaml", 8443),
        _app("cache-deployer", f"{_BASE}/cache-deployer/cache-deployer-deployment.yaml"),
        _app(
            "kubeflow-pipelines-profile-controller",
            f"{_BASE}/installs/multi-user/pipelines-profile-controller/deployment.yaml",
            8080,
            of=_KFP | _NO_PROXY,
        ),
        _app(
            "metacontroller",
            f"{_THIRD}/metacontroller/base/stateful-set.yaml",
            of=_CRD | _NO_PROXY | {"kustomize.component": "metacontroller"},
        ),
        _app("workflow-controller", f"{_THIRD}/argo/base/kustomization.yaml", 9090, 6060, of=_CRD),
        _app("mysql", f"{_THIRD}/mysql/base/mysql-deployment.yaml", 3306, of=_CRD),
        _app(
            "seaweedfs",
            f"{_THIRD}/seaweedfs/base/seaweedfs/seaweedfs-deployment.yaml",
            *(8333, 8111, 9333, 19333, 8888),
            of=_CRD,
        ),
        _app("minio", f"{_THIRD}/minio/base/minio-deployment.yaml (2.15.0)", 9000, of=_CRD),
        _component("metadata-grpc-server", _CRD, 8080),
        _component("metadata-envoy", _CRD | _NO_PROXY, 9090, 9901),
    ]
)
"""Kubeflow's own pods, by the value of the label that its services select."""

ARTIFACT_PROXY = Pod(
    {"app": "ml-pipeline-ui-artifact"},
    namespace="team-a",
    ports=(3000,),
    source=f"{_BASE}/installs/multi-user/pipelines-profile-controller/sync.py",
    namespace_labels=PROFILE_LABELS,
)
NOTEBOOK = Pod(
    {"app": "my-notebook", "notebook-name": "my-notebook", "statefulset": "my-notebook"},
    namespace="team-a",
    ports=(8888,),
    source="kubeflow/kubeflow components/notebook-controller/controllers/notebook_controller.go",
    namespace_labels=PROFILE_LABELS,
)

SEAWEEDFS_POLICY = {
    "kind": "NetworkPolicy",
    "metadata": {"name": "seaweedfs", "namespace": "kubeflow"},
    "spec": {
        "podSelector": {
            "matchExpressions": [{"key": "app", "operator": "In", "values": ["seaweedfs"]}]
        },
        "policyTypes": ["Ingress"],
        "ingress": [
            {
                "from": [
                    {
                        "namespaceSelector": {
                            "matchExpressions": [
                                {
                                    "key": "app.kubernetes.io/part-of",
                                    "operator": "In",
                                    "values": ["kubeflow-profile"],
                                }
                            ]
                        }
                    },
                    {"podSelector": {}},
                ],
                "ports": [{"port": 8333}],
            }
        ],
    },
}
"""What third-party/seaweedfs/base/seaweedfs/seaweedfs-networkpolicy.yaml lets in on the S3 port."""


def step(namespace: str, *, of_ours: bool = True) -> Pod:
    """The pod of a step (ours, or of other people's pipelines): Argo's and KFP's labels alone.

    `pipeline/runid`: backend/src/apiserver/template/v2_template.go; a driver has the same.
    """
    name = "nas-search-x7k2p" if of_ours else "other-pipeline-9pq4z"
    labels = {
        "pipeline/runid": "0f6bb3a6-0d2c-4b6e-9d3f-7a8e0f4d5b11",
        "pipelines.kubeflow.org/v2_component": "true",
        "workflows.argoproj.io/workflow": name,
        "workflows.argoproj.io/completed": "false",
    }
    of_profile = {} if namespace == "kubeflow" else PROFILE_LABELS
    return Pod(labels, namespace=namespace, namespace_labels=of_profile)


DNS = {
    "kube-dns": Pod({"k8s-app": "kube-dns"}, namespace="kube-system", ports=(53,)),
    # openshift/cluster-dns-operator: assets of its daemon set dns-default.
    "openshift-dns": Pod(
        {"dns.operator.openshift.io/daemonset-dns": "default"},
        namespace="openshift-dns",
        ports=(5353,),
    ),
}
