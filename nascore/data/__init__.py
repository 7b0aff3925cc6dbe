"""Images: read (`sources`), split (`splits`), stored (`store`), fed to networks (`batches`)."""
