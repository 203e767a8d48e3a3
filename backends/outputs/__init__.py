"""The meaning of a model's outputs: which column is which class, probabilities or logits."""
