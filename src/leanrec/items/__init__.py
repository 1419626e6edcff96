"""Item tables: looking vectors up, losses over the catalogue, the exact best K."""
