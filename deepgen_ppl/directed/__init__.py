"""Directed models: model-guide pairs, one family a file."""
