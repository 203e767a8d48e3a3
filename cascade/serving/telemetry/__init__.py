"""Counts, histograms, metrics, traces and logs of a process."""
