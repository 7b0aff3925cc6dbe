"""The commands of `nas`, a module each."""
