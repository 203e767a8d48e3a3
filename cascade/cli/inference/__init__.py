"""``cascade predict``, ``detect``: answers without a server."""
