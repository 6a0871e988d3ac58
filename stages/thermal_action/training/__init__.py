"""Learning: losses, learning rates, one epoch, checkpoints and resuming."""
