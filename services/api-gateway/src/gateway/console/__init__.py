"""The web console: pages for people, made of the API's own answers (docs/decisions/0032)."""

from gateway.console import pages, sign_in, static_files

# In this order: the pages end with one that answers whatever else is asked for.
CONSOLE = (static_files.router, sign_in.router, pages.router)
