"""Numbers behind the pictures and tables of a report."""
