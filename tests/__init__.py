import vidlib  # noqa: F401  # before any test imports torch, as its threads are told then how to wait
