"""What several papers share: tensors in, tensors out; no parameters file, no device, no path."""
