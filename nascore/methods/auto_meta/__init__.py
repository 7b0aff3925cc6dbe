"""Auto-Meta: a progressive search for networks that learn from a few examples."""
