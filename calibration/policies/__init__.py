"""Policies and policy sets, their calibrators and files."""
