"""Images and their splits: read (`sources`), split (`splits`), stored (`store`), fed (`batches`)."""
