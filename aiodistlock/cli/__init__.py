"""The command line: ``aiodistlock demo``. Needs the extra ``demo``."""
