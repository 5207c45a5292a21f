"""What scaling costs, and where it ends: the control plane measured with many streams, and a model of a whole day."""
