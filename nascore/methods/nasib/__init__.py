"""NASIB (arXiv 1910.08665): many operations, searched within any budget.

`superkernel`: one tensor for all convolutions of an edge; `distribution`: operations of the edges;
`schedule`: exploration and exploitation within a budget; `budget_tracker`: the spent budget;
`supernet`: paths on shared weights; `updates`: training of the distribution; `search`: the search.
"""
