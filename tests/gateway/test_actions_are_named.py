"""Whatever changes something says in the log what it was: every such route names its action."""

import inspect

from fastapi.routing import iter_route_contexts

from gateway.app import create_app

# They read, or change nothing but whoever asks: the charge of a query is in its entry, and the end of a session too.
_NOT_ACTIONS = {"/v1/query", "/v1/query/quote", "/console/sign-out"}


def test_every_route_that_changes_something_names_its_action() -> None:
    nameless = {
        route.path_format
        for route in iter_route_contexts(create_app().routes)
        if route.endpoint is not None
        and (route.methods or set()) - {"GET", "HEAD"}
        and not {"action", "_note"} & set(inspect.unwrap(route.endpoint).__code__.co_names)
    }
    assert nameless <= _NOT_ACTIONS
