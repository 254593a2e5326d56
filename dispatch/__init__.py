"""The client side of the queue: submit, wait, reviewers, adapters, the Celery application."""
