"""Ask chat servers with native tool calls, and read their replies as our tags."""
