"""Batches into a better model. `vidlmm.train.loop.train` runs a config; `step` and `state` stand on jax alone."""
