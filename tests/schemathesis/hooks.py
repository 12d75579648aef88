"""What the OpenAPI document says only in words: how to send NDJSON, and which values belong together.

The hooks change valid requests so that the hub must accept each of them. Invalid requests stay as they are.
"""

import base64
import datetime
import hashlib
import json
import pathlib
import re
import time

import schemathesis
from hypothesis import strategies as st

# URLs that a callback may have; private addresses, users and fragments are refused. Nobody answers at these (RFC 2606).
schemathesis.openapi.format(
    "uri",
    st.builds(
        "{}://{}.example{}/{}".format,
        st.sampled_from(["https", "http"]),
        st.from_regex(r"[a-z][a-z0-9]{0,10}", fullmatch=True),
        st.sampled_from(["", ":8443"]),
        st.from_regex(r"[A-Za-z0-9_/.~-]{0,20}(\?[a-z]=[a-z0-9]{0,5})?", fullmatch=True),
    ),
)

FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures"
CERTIFICATE = base64.encodebytes((FIXTURES / "self-signed.crt.der").read_bytes()).decode()
CA = f"-----BEGIN CERTIFICATE-----\n{CERTIFICATE}-----END CERTIFICATE-----\n"


@schemathesis.serializer("application/x-ndjson")
def lines(context, value):
    """Text is sent as it is; any other value as JSON."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text.encode("utf-8", errors="replace")


@schemathesis.hook
def filter_case(context, case):
    """Any text consists of lines, and the hub reports an invalid line in its place: only an empty body is invalid."""
    return case.media_type != "application/x-ndjson" or case.meta.generation.mode.is_positive


@schemathesis.hook
def before_call(context, case, kwargs):
    # A handshake that succeeds leaves HTTP, and the client with it: only those that must fail.
    if case.path.endswith("/ws"):
        case.headers.pop("Sec-WebSocket-Key", None)
    # Polls would wait up to a minute for events that nobody publishes.
    if isinstance(case.query.get("wait"), int) and 1 < case.query["wait"] <= 60:
        case.query["wait"] %= 2
    # Quotas of the tenant in which all this happens would end it.
    if case.path.startswith("/v1/tenants/") and case.path_parameters.get("name") in ("default", "other"):
        case.path_parameters["name"] = "shop"
    if case.meta.generation.mode.is_positive:
        keep_to_the_words(case)


def keep_to_the_words(case):
    # A key speaks for its own tenant, and the admin acts for one.
    case.headers.pop("Hookhub-Tenant", None)
    # A descending list takes no `wait`.
    if case.query.get("order") == "desc":
        case.query.pop("wait", None)
    case.query = past(case.query)
    if not isinstance(case.body, schemathesis.core.NotSet):
        case.body = past(case.body)
    if isinstance(case.body, dict):
        if case.path.startswith("/v1/subscriptions"):
            subscription(case)
        elif case.path == "/v1/keys":
            key(case.body)
        elif case.path == "/v1/stream-tokens":
            # The token must fit in a URL.
            case.body["types"] = case.body["types"][:8]
    # One key per request, and the same key for the same request: generated keys are short and collide.
    if "Idempotency-Key" in case.headers:
        said = repr((case.method, case.formatted_path, case.media_type, case.body))
        case.headers["Idempotency-Key"] = hashlib.sha256(said.encode("utf-8", errors="replace")).hexdigest()


def subscription(case):
    """TLS settings only for an https URL, with valid certificates; handshakes only with a receiver that exists."""
    urls = [case.body.get(name) for name in ("callback_url", "target_url", "hookUrl")]
    url = next((url for url in urls if url), None)
    if isinstance(case.body.get("tls"), dict):
        case.body["tls"] = {"ca": CA} if url and url.startswith("https:") else None
    if url is None:
        case.body.pop("handshake", None)


def key(body):
    """A future expiry in one of its two forms; event types only for keys without the scope `admin`."""
    if body.get("expires_at"):
        tomorrow = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=1)
        body["expires_at"] = tomorrow.isoformat()
        body.pop("expires_in_s", None)
    if "admin" in (body.get("scopes") or []):
        body.pop("event_types", None)


EVENT = re.compile(r"evt_[0-9A-Za-z]{13}")
DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def past(value):
    """Moves ids of future events before 2005, so that they name no event."""
    if isinstance(value, dict):
        return {name: past(member) for name, member in value.items()}
    if isinstance(value, list):
        return [past(item) for item in value]
    if isinstance(value, str) and EVENT.fullmatch(value):
        place = sum(DIGITS.index(digit) << 5 * at for at, digit in enumerate(value[:3:-1].upper()))
        if place > int(time.time() * 1000) << 20:
            return "evt_0" + value[5:]
    return value
