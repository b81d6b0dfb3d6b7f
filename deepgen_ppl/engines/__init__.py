"""The two engines. Importing this package imports neither."""
