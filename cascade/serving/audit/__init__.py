"""The audit: a sample of the answers is compared with those of the last stage."""
