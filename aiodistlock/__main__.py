"""``python -m aiodistlock`` is the command ``aiodistlock``."""

from aiodistlock.cli.app import main

if __name__ == "__main__":
    main()
