"""Neural architecture search: methods, spaces, training and evaluation.

Needs no cluster and no tracking server: results go to callbacks, files to local paths. Start
reading at `nascore.methods`.
"""

__version__ = "0.1.0"
