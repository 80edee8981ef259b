"""Redis behind Sentinel: which server is the primary now, and when another one is.

The connection to that primary is an ordinary one.
"""
