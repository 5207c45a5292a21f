"""How well objects keep their numbers, on generated scenes whose tracks are known."""
