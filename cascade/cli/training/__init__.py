"""``cascade train``, and its parts."""
