"""Scores of predictions as the official scorers of their tasks count them: pure functions of labels and texts."""
