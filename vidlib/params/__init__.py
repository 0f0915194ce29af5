"""Typed parameters: the one contract of notebook cell, recipe, command line and run record."""
