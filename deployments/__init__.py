"""What Ray runs: the shared detector, one actor per stream, and the supervisor; logic beside them is plain Python."""
