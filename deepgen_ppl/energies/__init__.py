"""Energies: what they are made of, the machine, its changes of form, mean field and paths."""
