"""A space of plain convolutional networks."""
