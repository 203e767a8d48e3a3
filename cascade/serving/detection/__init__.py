"""Objects in images, through the batcher of a gateway."""
