"""`nas doctor --cluster`: checks that a pipeline can run in a namespace of a cluster.

- `client`      client of the Kubernetes API, and its errors
- `kubeconfig`  choice of the cluster: that of the kubeconfig, or that of this pod
- `findings`    findings of checks, with the `kubectl` command that shows them
- `demand`      requests of the pods of a compiled pipeline
- `target`      pipeline, namespaces and account that are checked
- `kubeflow`    version of Kubeflow Pipelines, defaults of its workflow controller
- `rights`      service account of the pods and its rights
- `references`  secrets, config maps and pull secrets that the pipeline names
- `claim`       the volume of `cluster.state`
- `quantities`  amounts of resources, and totals of a pod
- `pods`        pod of a step with the containers of Kubeflow and Argo
- `capacity`    quotas
- `limit_ranges` defaults added to pods, and pods that are refused
- `nodes`       GPUs, selectors, taints, architecture; `obstacles`, `placing`
- `network`     labels of the namespace: Istio, pod security
- `probe`       checks in a pod of the cluster, on request only; `probe_job` is its Job
- `examine`     all checks in their order
"""
