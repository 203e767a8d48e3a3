"""What several verbs share: output, options, loaders, the address and key of a served cascade."""
