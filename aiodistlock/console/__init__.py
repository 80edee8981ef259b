"""What commands, doctor and demo share: how they fail, print and count.

Nothing here knows what they are about.
"""
