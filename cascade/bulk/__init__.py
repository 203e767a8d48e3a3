"""Bulk scoring: the rows of files through a cascade, part by part, with Parquet files as the result."""
