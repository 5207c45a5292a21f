"""Streams of a server, kept in a file."""
