"""Rows and labels: checks and files."""
