"""What earlier editions of the wire have to say, kept as it was: see docs/wire.md.

Nothing in here knows today's package: it stands for processes that are out in the world.
"""
