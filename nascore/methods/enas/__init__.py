"""ENAS with and without memory (arXiv 1802.03268, 1904.00438).

`controller` is the policy over token strings, `memory` the buffer of architectures that the policy
learns to encode, `learner` trains both by REINFORCE. `shared_search` trains a supernet and a
`policy` in turn. `method` has the functions of the three methods.
"""
