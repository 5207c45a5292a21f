"""From an exported network to a model package that every engine runs: ``raysight engine build``."""
