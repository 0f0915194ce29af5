"""clip-mini: a small CLIP trained on captioned stills of the embedded world; see CARD.md."""

WEIGHTS_SHA256 = "5539063ef46f0366fc09f8832f50703aea9fcd2e7b26de6417f062744ddb2602"
"""Of weights.safetensors. Other weights give other results: whoever ships them changes this and the results' names."""
