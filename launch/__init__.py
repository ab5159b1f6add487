"""Starting runs on pods and clusters, installed as vidlmm.launch. Nothing is here yet: a run is one machine."""
