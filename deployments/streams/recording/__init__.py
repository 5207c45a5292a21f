"""Clips around events, of the packets that the source sent."""
