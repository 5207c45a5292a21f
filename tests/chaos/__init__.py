"""The chaos suite: a fleet of streams is struck by a seeded schedule of faults, and judged by invariants."""
