"""Kinds of units, one a file: layers of machines and likelihoods of programs."""
