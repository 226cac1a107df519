"""What schemathesis is told of requests that the document cannot say: `tests/interop schemathesis` loads it.

Streams would never end, waits would take a minute each, and addresses where nothing answers as long.
"""

import re

import schemathesis

# As the document has it.
SESSION = re.compile("^[0-9a-f]{32}-[0-9a-f]{32}-[0-9]{1,18}$")


@schemathesis.hook
def before_call(context, case, kwargs):
    query, headers, body = case.query or {}, case.headers or {}, case.body
    is_positive = case.meta is None or case.meta.generation.mode.is_positive
    query.pop("watch", None)
    if "x-schemathesis-unknown-property" in headers:
        # HTTP allows headers that nobody knows. A number that is none stands for it.
        headers["Queue-Number"] = "none"
    elif is_positive and not (SESSION.match(str(headers.get("Queue-Session"))) and "Queue-Number" in headers):
        # One without the other is refused, which OpenAPI has no words for. Values of earlier answers are tried as well, and of
        # those `sessions`, a count in /v1/stats, is taken for a session, though it is none by the document.
        for name in ("Queue-Session", "Queue-Number", "Queue-Done-Below"):
            headers.pop(name, None)
    if is_positive and "queue" in case.path_parameters:
        # Few queues, so that there is something in them.
        case.path_parameters["queue"] = f"q{len(case.path_parameters['queue']) % 2}"
    if is_positive:
        agree(case, headers, body)
    if isinstance(body, dict):
        for name in ("wait_ms", "linger_ms"):
            value = body.get(name)
            if isinstance(value, int) and 0 < value <= 60_000:
                body[name] = value % 50
        if case.path == "/join" and isinstance(body.get("address"), str):
            # Nobody listens there, and it is known at once; a name could be looked up for long.
            body["address"] = "127.0.0.1:1" if is_positive else "no address"


def agree(case, headers, body):
    """What each field may be for itself, and not beside another."""
    if int(headers.get("Queue-Ttl-Ms", 1 << 63)) <= int(headers.get("Queue-Delay-Ms", 0)):
        # It would expire before it is ready.
        del headers["Queue-Ttl-Ms"]
    if int(headers.get("Queue-Done-Below", 0)) > int(headers.get("Queue-Number", 0)):
        # It would not be repeated itself.
        del headers["Queue-Done-Below"]
    if case.path in ("/v1/ack", "/v1/nack", "/v1/renew"):
        # They are of one queue.
        queue = body["receipts"][0].split("/")[0]
        body["receipts"] = ["/".join([queue, *receipt.split("/")[1:]]) for receipt in body["receipts"]]
    elif case.path == "/v1/queues/{queue}" and isinstance(body, dict):
        # Groups are served in order or in turn: in one queue this, in the other that.
        body.pop("fair" if case.path_parameters["queue"] == "q0" else "ordered", None)
