"""Why was it right, or wrong: the object, or what is behind it? Verdicts on predictions."""
