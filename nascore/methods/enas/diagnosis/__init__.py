"""Diagnosis of a controller: does its hidden state encode the tokens that it has emitted?

Source: Understanding Neural Architecture Search Techniques (arXiv 1904.00438), of which only the
abstract was available: states of an ENAS controller are not correlated with graph similarity. The
further measures are our choice (docs/memory-enas.md).

`distances` between architectures, `correlation` of two kinds of distances, `states` the
identical-state test, `probes` linear probes of states, `conditioning` the dependence of the policy
on earlier tokens, `diagnosis` all measures on one fixed set of architectures, `page` the report.
"""
