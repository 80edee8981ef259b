"""Measures aiodistlock beside other locks: ``python -m bench``."""
