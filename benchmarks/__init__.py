"""Load generator and scenarios."""
