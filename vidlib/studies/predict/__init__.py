"""Guesses for videos of a person's own."""
