"""Locks kept in this process, for tests without Redis: the contract's twin.

It answers as the scripts do; nothing else of the package is simulated.
"""
