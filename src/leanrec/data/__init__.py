"""Interaction logs, stores, splits and batches."""
