"""The load generator: sends requests at their moments and records what becomes of them."""
