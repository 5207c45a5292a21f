"""Which nodes are lost, sooner than Ray says so."""
