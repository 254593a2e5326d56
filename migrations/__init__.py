"""Alembic migrations, run by `db.migrate`; each says what changed, none knows the later ones."""
