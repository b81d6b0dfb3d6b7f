"""Evidence: log Z and log p(x) with their sides, and the comparison of models."""
