"""The locks that are measured, one adapter each, and what the bench knows of them.

An adapter is a module with ``connect(url, tasks, ttl)``: an async context manager that
gives a :class:`~bench.peers.base.Peer`, set up as the lock's documentation recommends.
"""
