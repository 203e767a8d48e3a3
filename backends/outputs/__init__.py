"""What the outputs of a model mean: which column is which class, probabilities or logits."""
