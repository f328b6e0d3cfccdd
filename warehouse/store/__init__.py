"""The two databases: tables, migrations, and all SQL."""
