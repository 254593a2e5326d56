"""A Celery worker process with Referee's own settings and a task that reports its start and end.

Each start is pushed to the list "starts" in the broker, each end to "ends"; the task runs until the
key "release" is set. While the key "paused" is set it does not consume. Arguments: broker URL,
slots, lease and longest wait for the broker's answer in seconds.
"""

from __future__ import annotations

import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import redis

from dispatch import app as application
from dispatch.app import REVIEW_TASK, make_app
from settings import Settings
from worker.process import run_celery
from worker.subscription import Subscription

URL, SLOTS, LEASE, ANSWER = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
QUEUES = ["reviews.test", "reviews.more"]
application._ANSWER_SECONDS = ANSWER
app = make_app(URL, Settings(home=Path(), lease_seconds=LEASE))


@app.task(name=REVIEW_TASK)
def review(**_: Any) -> None:
    """Start, wait for the release, end; the broker may be away meanwhile."""
    tell("starts")
    while not told("release"):
        time.sleep(0.05)
    tell("ends")


def tell(name: str) -> None:
    with redis.Redis.from_url(URL) as client:
        client.rpush(name, time.time())


def told(key: str) -> bool:
    try:
        with redis.Redis.from_url(URL) as client:
            return bool(client.exists(key))
    except redis.RedisError:
        return False


def follow_subscription(subscription: Subscription) -> None:
    """Keep consuming or not, by the key "paused", as a keeper does."""
    while True:
        with suppress(redis.RedisError), redis.Redis.from_url(URL) as client:
            subscription.listen(not client.exists("paused"))
        time.sleep(0.1)


if __name__ == "__main__":
    threading.Thread(target=follow_subscription, args=(Subscription(QUEUES),), daemon=True).start()
    run_celery(app, "test@here", QUEUES, SLOTS)
