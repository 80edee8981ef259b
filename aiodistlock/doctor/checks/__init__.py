"""Judges what was gathered: pure functions from facts to findings."""
