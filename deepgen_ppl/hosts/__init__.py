"""The two engines with their hosts. Importing this package imports neither."""
