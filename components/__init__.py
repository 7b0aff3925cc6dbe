"""Pipeline steps on Kubeflow: signatures (`declared`), work (`steps`), tracking and registry."""
