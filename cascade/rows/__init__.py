"""Rows and labels: checked, and kept in files."""
