"""Who is next: what one process does about a name, for its tasks and at Redis.

How long a lease lasts is the leases' subject; nothing here awaits but a task for its turn.
"""
