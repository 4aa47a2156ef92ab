"""`python -m deploy.local`: the local stack without the rest of the command line."""

from deploy.local.command_line import app

app()
