"""Training of networks from recipes."""
