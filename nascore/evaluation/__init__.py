"""Statistics of results: the verdict on a search, paired comparisons."""
