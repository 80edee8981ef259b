"""What is said to Redis: the scripts, one operation each, its answers, calls and grants.

How it gets there is the connection's subject, and where to the deployments'.
"""
