"""Slow textbook versions of the maths: loops as the equations read, one item at a time, no cleverness."""
