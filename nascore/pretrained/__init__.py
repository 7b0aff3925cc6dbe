"""Weights from files: read as numbers only, and matched to networks by name, part and shape."""
