"""The configuration of a run: its schema, its layers, and messages about what is wrong in it."""
