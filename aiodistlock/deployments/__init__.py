"""Where locks are kept: one Redis, Sentinel, Cluster, quorum, durable, memory; one room each.

Each brings a store and what connects it.  Nothing here knows who waits, or holds.
"""
