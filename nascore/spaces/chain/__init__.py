"""The chain space of NASES: layers of four tokens."""
