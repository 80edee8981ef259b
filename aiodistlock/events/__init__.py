"""What is told: events, the story of one acquisition, listeners and the log.

Nothing here decides anything.
"""
