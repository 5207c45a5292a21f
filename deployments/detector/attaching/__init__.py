"""How a stream gets leave to attach to a replica: it asks its node's broker, which asks Serve."""
