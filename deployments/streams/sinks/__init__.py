"""Events sent elsewhere: what a sink takes, what waits for it, how each kind of server is told, and what it refused."""
