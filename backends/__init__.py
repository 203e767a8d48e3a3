"""Models: rows in, predictions out."""
