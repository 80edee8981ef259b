"""Tools for testing code that uses aiodistlock.

Import what you need from its module, for example
``from aiodistlock.testing.embedded import EmbeddedRedis``: nothing is loaded
here.
"""
