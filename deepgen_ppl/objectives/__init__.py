"""What a step of training differentiates, one objective a file."""
