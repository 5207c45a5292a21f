"""Where everything lies that has to outlive every process: SQLite on one node, Redis in a cluster."""
