"""Undirected models, one family a file."""
