"""The commands that move data: train, score, demo."""
