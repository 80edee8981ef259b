"""Rounds of a quorum: one request to all nodes at once, and what their answers come to."""
