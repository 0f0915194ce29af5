"""clip-mini: a small CLIP trained on captioned stills of the embedded world; see CARD.md."""

WEIGHTS_SHA256 = "7703ffac0e38e4135a56bc6e6a8ddaf4fea8cfa0a7b031198c6d112f2310b5d1"
"""Of weights.safetensors. Other weights give other results: whoever ships them changes this and the results' names."""
