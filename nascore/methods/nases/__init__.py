"""NASES (arXiv 1909.03615): search in an embedding of architectures.

`coder` the embedding, `pretraining` stage A and the folder that it leaves; `history` what a search
has seen, `moves` from one architecture to others, `networks` which of them are new, `critic` which
of those promises most, over `gp` the Gaussian processes; `released` stage B as its authors wrote
it. The method itself is in `nascore.methods.nases.method`.
"""
