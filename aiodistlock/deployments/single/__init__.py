"""One Redis, at an address of its own or wherever Sentinels say.

Its store serves a Cluster, too: what carries the calls makes the difference.
"""
