"""Detection: windows of images as rows, and the backends for them."""
