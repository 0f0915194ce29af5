"""Pretrained towers behind one small interface each."""
