"""Signals without a database: readers, quality, windows, simulator, download."""
