"""Measures a running server: closed loops of requests, and how long they take."""
