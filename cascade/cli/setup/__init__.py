"""``cascade init``, ``schema``, ``check``, ``data``: before a cascade is tuned."""
