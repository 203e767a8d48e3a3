"""Files that anyone may have written, read within limits: npy, zip, text, YAML."""
