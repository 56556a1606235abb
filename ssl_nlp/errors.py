"""The exception that the command line shows without a traceback."""


class UserError(Exception):
    """Something that the user can fix.

    The message is one line that names the culprit and says what to do. The command line prints it on standard error and
    exits with status 2; in a notebook it is an ordinary exception.
    """

    status = 2  # of the command
