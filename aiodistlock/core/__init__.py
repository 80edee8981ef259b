"""Words that all use: options, keys, clock, backoff, fencing, validity, what is shown.

Pure, but for the clock, the tasks of our own and the lock of threads.  Nothing here knows
Redis, or any other room.
"""
