"""The parts of the page: each makes elements of facts."""
