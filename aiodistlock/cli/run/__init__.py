"""``aiodistlock run NAME -- COMMAND``: flock(1) for a fleet.

Rules
-----
1. COMMAND runs while we hold the lock, and at no other time.
2. It has a process group of its own.  A lost lease ends the whole group: SIGTERM, and
   after a grace SIGKILL.
3. If we are killed or stopped, nobody renews the lease, so the group ends in the same way;
   see ``guardian.py``.
4. What we are told by signals, COMMAND is told.  Its exit status is ours.  Of Ctrl-C we die,
   so that a shell does not go on with its script.
5. Background processes that outlive COMMAND are not waited for, as with flock(1).
"""
