"""How the embedded tiny CLIP was made: sprites, scenes, training, evaluation."""
