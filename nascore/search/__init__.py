"""Search by proposals: budget, workers, and the Optuna study that holds all state."""
