"""ENAS with and without memory (arXiv 1802.03268, 1904.00438).

`controller` is the policy over token strings, `memory` the buffer and what it teaches the policy's
hidden state, `learner` both of them with REINFORCE. `shared_search` is the loop that trains a
supernet beside a `policy`, and `kept` what it goes on from. The methods themselves are in
`nascore.methods.enas.method`.
"""
