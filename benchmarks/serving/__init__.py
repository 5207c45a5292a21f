"""Frames through the whole of serving, three ways, set against the engine alone; ``__main__`` tells how it is run."""
