"""A method that samples uniformly and scales the logits of its network."""
