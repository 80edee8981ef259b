"""The ledger story in three acts, on real processes, a real Redis and a real SQLite.

Worker processes reconcile one stream of ledger events into balances by read,
compute, write. Without a lock updates get lost; with a naive lock one crash stops
the fleet; with AsyncLock the balances are exact, though workers are killed and
frozen inside the critical section.

Nothing is loaded here.
"""
