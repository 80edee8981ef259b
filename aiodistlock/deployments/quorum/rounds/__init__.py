"""The rounds of a quorum: the same question to all nodes, and one verdict.

One operation, one module; what a vote counts for is in ``votes``.
"""
