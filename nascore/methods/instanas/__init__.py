"""InstaNAS (arXiv 1811.10201): an architecture for each image.

`metagraph` all operations in one network; `routing` inference that computes the chosen ones only;
`controller` which to choose; `reward` what is worth choosing; `table` what it costs; `explain` what
was chosen; `export` what leaves this code.
"""
