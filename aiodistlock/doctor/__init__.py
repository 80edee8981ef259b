"""``aiodistlock doctor``: what makes locks unsafe on a deployment, and what to do.

Gathering (``session``, ``node``, ``probes``, ``surroundings``) asks the servers and
judges nothing; ``checks`` judges what was gathered and asks nobody.
"""
