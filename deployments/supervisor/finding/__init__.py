"""How others find the supervisor and the stream actors."""
