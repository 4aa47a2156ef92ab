"""What can go wrong with the local stack, told so that the reader knows what to do."""


class StackError(Exception):
    """The stack or the jar could not be had; the message says why and what to do."""


class UsageError(StackError):
    """The request itself is wrong: an unknown service, a taken port."""
