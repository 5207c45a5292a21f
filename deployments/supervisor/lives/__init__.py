"""The actors that run streams, as the supervisor sees them."""
