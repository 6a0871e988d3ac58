"""Scores of a model, and of the baselines and the reference that it has to beat."""
