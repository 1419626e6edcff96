"""A choice of routes for every user: scores, prices, budgets, and how a router is fitted. It names no technique."""
