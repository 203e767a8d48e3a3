"""What stages cost: curves of time against rows, the rows that arrive together, and the mean cost that follows."""
