"""Learning: objectives, contrastive gradients, `fit`."""
