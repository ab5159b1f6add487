"""A folder into parameters and back: the run's folder, its checkpoints, weights as safetensors."""
