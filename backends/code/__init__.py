"""Code that a configuration names."""
