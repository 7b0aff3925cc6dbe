"""NASIB (arXiv 1910.08665): many operations, searched within any budget.

`superkernel` one tensor for all convolutions of an edge; `distribution` which one is drawn;
`schedule` how a budget divides exploration from exploitation, `clock` what is spent of it;
`supernet` paths on shared weights, `updates` of weights and distribution; `budget_search` the loop.
"""
