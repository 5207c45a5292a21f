"""The nodes of the cluster, as the supervisor sees them."""
