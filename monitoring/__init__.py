"""What is measured while the platform runs."""
