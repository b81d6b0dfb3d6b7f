"""Undirected models: energies, and Boltzmann machines made of layers and couplings."""
