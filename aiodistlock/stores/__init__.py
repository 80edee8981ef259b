"""Where locks are kept: the ``Store`` protocol and what implements it."""
