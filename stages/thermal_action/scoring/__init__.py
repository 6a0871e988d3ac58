"""Scores of a model, and of the baselines that it has to beat."""
