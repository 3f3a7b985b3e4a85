"""Training: a recipe trains a network on data into a run."""
