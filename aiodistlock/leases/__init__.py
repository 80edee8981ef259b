"""How long: the process's lease, the watchdog that renews it, the body that a loss cancels.

Who gets it next is decided in waiting.
"""
