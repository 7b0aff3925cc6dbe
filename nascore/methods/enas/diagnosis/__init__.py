"""Instruments: does the hidden state of a controller remember what it has written?

Source: Understanding Neural Architecture Search Techniques (arXiv 1904.00438), of which we know the
abstract: states of an ENAS controller are not correlated with graph similarity. Which measures it
used beyond that was not to be found; these are our choice (docs/memory-enas.md).

`distances` between architectures, `correlation` of two kinds of distances, `states` the
identical-state test, `probes` what can be read off a state, `conditioning` how much the policy
depends on its past, `diagnosis` all of them on one fixed set of architectures, `figures` and `page`
what a person sees of it.
"""
