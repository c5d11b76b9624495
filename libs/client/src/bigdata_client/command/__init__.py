"""The commands of `bigdata` that talk to a gateway, and what commands of other packages share with them.

A package adds commands by an entry point in the group `bigdata.commands`: a function that gets the typer app.

    @with_session                                   # adds --url --key --profile --json, turns errors into exit codes
    def erase(session: Session, dataset: str) -> None:
        with session.client(admin=True) as client:
            session.out.item(client.call("POST", ...))

`fail` and `Stop` end a command with a message and one of the documented exit codes; `say` talks to the person.
"""

from bigdata_client.command.outcome import Exit, Stop, fail, outcomes, say
from bigdata_client.command.session import Json, Session, with_session

__all__ = ["Exit", "Json", "Session", "Stop", "fail", "outcomes", "say", "with_session"]
