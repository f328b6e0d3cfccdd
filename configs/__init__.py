"""Settings, the model's contract, the error tree and logging: what every other package may import."""
