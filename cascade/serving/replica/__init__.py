"""What runs in a process of a served cascade: a gateway with the first segment, or a later segment."""
