"""A discrete-event simulation of a served cascade."""
