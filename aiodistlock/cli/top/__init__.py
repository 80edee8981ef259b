"""``aiodistlock top``: held locks, waiters, hand-offs and waits, as they change."""
