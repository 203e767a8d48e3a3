"""The plan of a served cascade: segments and replicas, from measured times."""
