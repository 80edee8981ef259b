"""Locks whose answers wait for replicas or for the disk (``ack``).

Everything else about them is as on one Redis.
"""
