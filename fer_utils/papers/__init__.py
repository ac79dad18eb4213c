"""One folder a paper: its network, objective, recipe, experiments and published numbers."""
