"""What schemathesis is told of requests that the document cannot say: `tests/interop schemathesis` loads it.

Streams would never end, waits would take a minute each, and addresses where nothing answers as long.
"""

import schemathesis


@schemathesis.hook
def before_call(context, case, kwargs):
    query, headers, body = case.query or {}, case.headers or {}, case.body
    is_positive = case.meta is None or case.meta.generation.mode.is_positive
    query.pop("watch", None)
    if "x-schemathesis-unknown-property" in headers:
        # HTTP allows headers that nobody knows. A number that is none stands for it.
        headers["Queue-Number"] = "none"
    elif is_positive and not ("Queue-Session" in headers and "Queue-Number" in headers):
        # One without the other is refused, which OpenAPI has no words for.
        for name in ("Queue-Session", "Queue-Number", "Queue-Done-Below"):
            headers.pop(name, None)
    if is_positive and "queue" in case.path_parameters:
        # Few queues, so that there is something in them.
        case.path_parameters["queue"] = f"q{len(case.path_parameters['queue']) % 2}"
    if isinstance(body, dict):
        for name in ("wait_ms", "linger_ms"):
            value = body.get(name)
            if isinstance(value, int) and 0 < value <= 60_000:
                body[name] = value % 50
        if case.path == "/join" and isinstance(body.get("address"), str):
            # Nobody listens there, and it is known at once; a name could be looked up for long.
            body["address"] = "127.0.0.1:1" if is_positive else "no address"
