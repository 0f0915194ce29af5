"""resnet-mini: a small ResNet trained on stills of the embedded world; see CARD.md."""

WEIGHTS_SHA256 = "c2c859310b0168224399899608c9670f0a126cac76c0ec1d4dc1b725f45052a5"
"""Of weights.safetensors. Other weights give other results: whoever ships them changes this and the results' names."""
