"""The command line: ``aiodistlock demo`` and ``doctor``. Needs the extra ``cli``."""
