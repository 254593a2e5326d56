"""Celery app, the review task, leases, launcher, embedded broker."""
