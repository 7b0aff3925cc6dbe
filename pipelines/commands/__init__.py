"""Commands of `nas`, one module each."""
