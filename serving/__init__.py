"""Asking a model for scores: one client interface, several ways to reach the model."""
