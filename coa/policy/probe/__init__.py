"""Look at what a server does before a run relies on it."""
