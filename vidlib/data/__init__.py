"""Videos: which files, which frames, which episodes, as tensors."""
