"""Status of a run on Kubeflow, from KFP's list of nodes, pod logs and MLflow."""
