"""A folder for the path of processes whose clock is to be stepped; what steps it is `sitecustomize`."""
