"""Bijections, written once for both engines."""
