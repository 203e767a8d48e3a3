"""The command line's side of a served cascade."""
