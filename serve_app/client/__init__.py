"""A raysight server from outside: what the command line sees of it."""
