"""Description and counters of the machine."""
