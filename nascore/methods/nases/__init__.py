"""NASES (arXiv 1909.03615): search in an embedding of architectures; see `method`."""
