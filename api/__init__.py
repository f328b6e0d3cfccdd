"""The REST service: what was found, in which recording, by which model."""
