"""Follow a row back to the run, the prompt and the calls that made it."""
