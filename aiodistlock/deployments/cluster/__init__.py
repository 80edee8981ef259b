"""A Redis Cluster: its members, slots and moves, and a pipe to each primary that is needed.

What all pipes do alike belongs to the connection.
"""
