"""`nas doctor --cluster`: whether a pipeline could run in a namespace of a cluster.

- `client`      the Kubernetes API and its errors
- `kubeconfig`  which cluster: that of the kubeconfig, or that of this pod
- `findings`    what a check reports: as `nas doctor`, and the `kubectl` command that shows it
- `demand`      what the pods of a compiled pipeline ask for
- `target`      what is examined: pipeline, namespaces, account
- `kubeflow`    version of Kubeflow Pipelines, defaults of its workflow controller
- `rights`      service account of the pods, and what it may do
- `references`  secrets, config maps and pull secrets that the pipeline names
- `claim`       the volume of `cluster.state`
- `quantities`  amounts of resources, and what a pod takes in all
- `pods`        the pod of a step with the containers of Kubeflow and Argo
- `capacity`    quotas
- `limit_ranges` what is added to pods, and which are refused
- `nodes`       GPUs, selectors, taints, architecture
- `network`     labels of the namespace: Istio, pod security
- `probe`       what only a pod in the cluster can find out; made only when asked for
- `examine`     all checks in their order
"""
