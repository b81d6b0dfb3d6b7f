"""Diagnostics: what is handed to ArviZ, and pictures."""
