"""ECG from files to windows in PostgreSQL, and results beside them."""
