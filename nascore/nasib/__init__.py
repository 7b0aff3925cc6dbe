"""NASIB (arXiv 1910.08665): many operations, searched within any budget.

`superkernel` one tensor for all convolutions of an edge; `distribution` which one is drawn;
`schedule` how a budget divides exploration from exploitation.
"""
