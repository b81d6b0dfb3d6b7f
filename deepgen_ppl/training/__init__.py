"""Training: `fit`, batches, validation, checkpoints."""
