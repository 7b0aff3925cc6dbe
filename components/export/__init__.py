"""Files that a run exports: weights, programs and the manifest that lists them."""
