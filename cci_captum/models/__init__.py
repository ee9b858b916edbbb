"""How encoders are loaded and called: CLIP-like models, wrappers, preprocessing, scores."""
