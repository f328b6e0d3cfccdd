"""The pieces of the TFX training pipeline."""
