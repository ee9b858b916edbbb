"""How the embedded tiny CLIP was made: sprites, training, evaluation."""
