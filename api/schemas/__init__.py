"""What the service takes and answers, by subject."""
