"""Boosted cascades of Haar features: features, evaluation, training."""
