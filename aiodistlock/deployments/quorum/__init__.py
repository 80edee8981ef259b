"""Independent nodes of which a majority decides (Redlock): votes, rounds, a pipe to each node.

The arithmetic of a verdict is in ``votes``; nothing here queues: a quorum has no order.
"""
