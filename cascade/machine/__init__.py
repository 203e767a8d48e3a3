"""The machine that something was measured on."""
