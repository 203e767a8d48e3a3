"""Whether traffic still resembles the calibration data of a policy: tests that are valid at all times."""
