"""Search spaces: which architectures there are, and the network of each."""
