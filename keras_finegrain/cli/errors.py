"""Errors that a user can put right."""


class RunError(Exception):
    """Ends the run with one line on standard error and exit status 2."""
