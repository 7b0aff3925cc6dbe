"""Images per second of the training loop, of a bare loop and of the recipe of torchvision."""
