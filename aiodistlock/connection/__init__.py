"""One pipelined connection to one server, kept open: its transport, backlog, inbox, greeting.

What is said over it comes from the protocol; which server it leads to decide the deployments.
"""
