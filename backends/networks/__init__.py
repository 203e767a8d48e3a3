"""Network architectures shipped with the torch backend."""
