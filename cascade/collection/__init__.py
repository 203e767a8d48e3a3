"""From models and labelled rows to a score table, with measured costs."""
