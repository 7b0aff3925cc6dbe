"""InstaNAS (arXiv 1811.10201): an architecture for each image.

`supernet`: all operations in one network; `routing`: inference that computes the chosen ones;
`controller`: the policy; `reward`: its reward; `cost_table`: the latency of policies; `decisions`:
statistics of policies; `export`: programs of `torch.export`.
"""
