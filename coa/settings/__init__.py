"""The settings of all commands: where they come from, what they may be, and their help."""
