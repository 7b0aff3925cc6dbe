"""The model registry in MLflow: logging, loading, comparing and promoting models."""
