"""TensorRT and TensorRT for RTX. Their libraries are loaded when something here needs them, not before."""
