"""Published systems on sites, one in each file; SkipNet and BlockDrop are in ``dynamic_network``."""
