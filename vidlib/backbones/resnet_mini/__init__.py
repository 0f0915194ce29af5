"""resnet-mini: a small ResNet trained by contrast on stills of the embedded world; see CARD.md."""

WEIGHTS_SHA256 = "d0a256afcdc55f76091388bc3019930f848e54e36a961773ed7e1e2aa267e31e"
"""Of weights.safetensors. Other weights give other results: whoever ships them changes this and the results' names."""
