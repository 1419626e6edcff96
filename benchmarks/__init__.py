"""Figures of the documents: cases say what is measured, one driver measures it, rows keep it, tables show it."""
