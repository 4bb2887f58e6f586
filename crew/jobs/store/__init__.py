"""The job store: records of jobs in SQLite or PostgreSQL. Only this package imports SQLAlchemy."""
