"""Request and response bodies: decoding, encoding, limits."""
