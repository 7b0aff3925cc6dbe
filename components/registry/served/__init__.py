"""Code that travels with models which answer with more than one tensor."""
