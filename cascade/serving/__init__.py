"""The served cascade: a Ray Serve application."""
