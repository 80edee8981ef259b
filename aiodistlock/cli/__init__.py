"""The ``aiodistlock`` command, by the extra ``cli``: what works on locks, ``demo``, ``doctor``."""
