"""What replicas of the API count together."""
