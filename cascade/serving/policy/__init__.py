"""The policy in force: agreed on by all gateways, changed while requests are answered."""
