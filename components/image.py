"""The image that every step runs in: one constant, and a tag that never moves.

KFP's cache and a node's image store know an image by its name alone, so a tag is never used for two
builds; `nas compile --image` puts another one in, by digest for production.
"""

from importlib.metadata import version

IMAGE = f"ghcr.io/nas-pipelines/nas-python:{version('nas-pipelines')}"
