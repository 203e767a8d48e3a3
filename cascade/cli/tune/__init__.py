"""``cascade collect``, ``import``, ``calibrate``, ``search``, ``evaluate``, ``explain``, ``report``: offline."""
