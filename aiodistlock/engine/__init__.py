"""What runs: the pipe, the inbox, the contenders and the watchdog."""
