"""Five published methods of neural architecture search, and what they share.

Needs no cluster and no tracking server: results are reported through a callable and files are
read and written at ordinary local paths. Start reading at `nascore.methods`.
"""

__version__ = "0.1.0"
