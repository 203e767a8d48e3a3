"""Score tables: read, checked, split."""
