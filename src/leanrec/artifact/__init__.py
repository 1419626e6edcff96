"""The run directory: written whole, read with suspicion, and answered from."""
