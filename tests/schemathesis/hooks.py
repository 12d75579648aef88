"""What schemathesis cannot know of the hub by its document alone: how to send lines, and what would only cost time."""

import hashlib
import json
import re
import time

import schemathesis
from hypothesis import strategies as st

# Any URL may be a URI; these are some that a callback may have: the hub refuses private addresses (SECURITY.md).
schemathesis.openapi.format(
    "uri",
    st.builds(
        "{}://{}.example.com{}/{}".format,
        st.sampled_from(["https", "http"]),
        st.from_regex(r"[a-z][a-z0-9]{0,10}", fullmatch=True),
        st.sampled_from(["", ":8443"]),
        st.from_regex(r"[A-Za-z0-9_/.~-]{0,20}(\?[a-z]=[a-z0-9]{0,5})?", fullmatch=True),
    ),
)


@schemathesis.serializer("application/x-ndjson")
def lines(context, value):
    """Lines go out as they are; what is no text, as JSON."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text.encode("utf-8", errors="replace")


@schemathesis.hook
def filter_case(context, case):
    """Any text is lines, and a bad one is answered in its place: there is no invalid text but none."""
    return case.media_type != "application/x-ndjson" or case.meta.generation.mode.is_positive


@schemathesis.hook
def before_call(context, case, kwargs):
    """Keeps valid requests within what the document says in words; an invalid one stays as invalid as it was."""
    # A handshake that succeeds leaves HTTP, and the client with it: only those that must fail.
    if case.path.endswith("/ws"):
        case.headers.pop("Sec-WebSocket-Key", None)
    # Polls would wait up to a minute for events that nobody publishes.
    if isinstance(case.query.get("wait"), int) and 1 < case.query["wait"] <= 60:
        case.query["wait"] %= 2
    if not case.meta.generation.mode.is_positive:
        return
    # A key speaks for its own tenant, and the admin acts for one.
    case.headers.pop("Hookhub-Tenant", None)
    # The newest are listed without waiting.
    if case.query.get("order") == "desc":
        case.query.pop("wait", None)
    # A key of its own for each request, the same for the same one: generated keys are short and meet again.
    if "Idempotency-Key" in case.headers:
        said = repr((case.method, case.formatted_path, case.media_type, case.body))
        case.headers["Idempotency-Key"] = hashlib.sha256(said.encode("utf-8", errors="replace")).hexdigest()
    case.query = past(case.query)
    if not isinstance(case.body, schemathesis.core.NotSet):
        case.body = past(case.body)


EVENT = re.compile(r"evt_[0-9A-Za-z]{13}")
DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def past(value):
    """The same with the ids of events to come, which name nothing, moved before 2005."""
    if isinstance(value, dict):
        return {name: past(member) for name, member in value.items()}
    if isinstance(value, list):
        return [past(item) for item in value]
    if isinstance(value, str) and EVENT.fullmatch(value):
        place = sum(DIGITS.index(digit) << 5 * at for at, digit in enumerate(value[:3:-1].upper()))
        if place > int(time.time() * 1000) << 20:
            return "evt_0" + value[5:]
    return value
