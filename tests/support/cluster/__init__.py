"""A Kubeflow of one machine for tests: what KFP 2.17's driver, Argo and launcher do to a pipeline.

It takes a compiled pipeline (both YAML documents), runs each task as a container, and is as unkind
as the real one. Each rule names what it copies: `K:` is kubeflow/pipelines 2.17.0 (paths below
`backend/src/`), `A:` is argo-workflows v4.0.5, and C1, H2, N1, ... are the findings listed in
docs/testing.md. There is no scheduler, no quota and no network policy.
"""

from cluster.kubeflow import Cluster, Fault, Options
from cluster.pod import Pod
from cluster.runs import Run

__all__ = ["Cluster", "Fault", "Options", "Pod", "Run"]
