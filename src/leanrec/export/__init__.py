"""Export a model: graphs for any number of users and any length of history, and the weights they share."""
