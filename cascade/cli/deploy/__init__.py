"""``cascade plan``, ``serve``, ``build``, ``status``, ``reload``, ``audit``: served cascades."""
