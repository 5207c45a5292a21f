"""Desired state against observed state: which streams there should be, and the actors that run them."""
