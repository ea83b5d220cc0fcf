"""Runs the programs in `claims/` on every Python found here and writes `docs/claims.md`.

The programs decide: each prints what it measured and the verdict that follows. Its docstring says which verdict is
expected of which implementation, and a program that disagrees with its own text fails the command.
"""
