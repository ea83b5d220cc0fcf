"""`python -m heapkeeper`: the same as the command `heapkeeper`."""

from heapkeeper.cli import main

if __name__ == "__main__":
    main()
