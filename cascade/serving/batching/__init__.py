"""Micro-batches: rows of many requests run through a segment together, and on to the next one."""
