"""The search methods, a folder each; `nascore.methods.registry` lists them."""
