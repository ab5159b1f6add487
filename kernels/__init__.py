"""Token-reduction kernels, installed as vidlmm.kernels. None is needed yet: the models use plain JAX."""
