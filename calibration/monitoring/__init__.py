"""Whether the traffic is still what a policy was calibrated for: tests that may be looked at all the time."""
