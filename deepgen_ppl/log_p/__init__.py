"""Both sides of log p(x), and the comparison of models."""
