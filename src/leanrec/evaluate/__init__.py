"""Quality on the full catalogue, with intervals."""
