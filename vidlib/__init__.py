"""vidlib: reproducible CLIP-based and few-shot video action recognition."""

__version__ = "0.1.0"
