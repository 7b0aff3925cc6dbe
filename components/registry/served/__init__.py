"""Code that is stored with models whose output is not a single tensor."""
