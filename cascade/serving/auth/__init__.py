"""Keys and TLS."""
