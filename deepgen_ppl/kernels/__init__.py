"""MCMC kernels, one method a file."""
