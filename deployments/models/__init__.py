"""Which package each model's replicas run: what is wanted, what is the case, and how one becomes the other."""
