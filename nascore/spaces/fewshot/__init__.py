"""The search space of Auto-Meta: cells for few-shot networks."""
