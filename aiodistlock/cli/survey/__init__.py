"""What ``ls``, ``inspect``, ``top`` and ``release`` see: locks, as Redis has them.

Read with plain commands, so that a user who may only read is enough.  A lock's values
are read one behind the other, not at one instant: on a busy lock they may be of
successive leases.
"""
