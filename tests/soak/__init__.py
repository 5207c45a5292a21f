"""The soak: the fleet runs on for long, and what it holds must not grow."""
