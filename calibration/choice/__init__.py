"""Which models, in which order: the choice of a cascade from a pool, and its judges."""
