"""The measures in the pictures and tables of a report."""
