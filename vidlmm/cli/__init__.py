"""A person's wish into a call of the package: the `vidlmm` command, one file a verb, no logic of their own."""
