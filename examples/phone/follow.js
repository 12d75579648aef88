// Follows the events of a hub by Server-Sent Events, by long poll where streams do not work, or by WebSocket.
//
// Each transport continues after the last event, so a lost connection, a new token or another transport neither loses
// nor repeats an event.

// Failures in a row after which the other transport is used.
const TRIES = 3;
// If a stream takes longer to open, a proxy probably blocks it.
const OPEN_MS = 10_000;
// The wait of one poll, shorter than the timeout of most proxies.
const POLL_S = 25;
// The part of its lifetime after which a token is renewed.
const RENEW_AT = 0.8;
const [FIRST_PAUSE_MS, LONGEST_PAUSE_MS] = [500, 30_000];

/**
 * Follows until `signal` aborts.
 *
 * - `getAccess()` resolves to `{ hub, token, ttl_s, from }`: the hub's URL, a stream token, how long it is good, and
 *   where to begin ("earliest", "now", a time or an event's id).
 * - `way` is "sse", "poll" or "ws"; the others fall back to "poll" when they fail again and again.
 * - `onEvent(event)` is called for each event, in order; `onGap(data)` when the hub no longer has what comes after the
 *   last one, and goes on with the oldest it has; `onState(state, way)` with "connecting", "open" or "lost".
 */
export async function follow({ getAccess, way: wanted, signal, onEvent, onGap, onState }) {
  let way = wanted;
  let failures = 0;
  let after = null;

  const line = {
    signal,
    opened() {
      failures = 0;
      onState("open", way);
    },
    // Counts a failure. Returns true if the other transport should be used.
    failed() {
      failures += 1;
      onState("lost", way);
      return failures >= TRIES;
    },
    take(event) {
      after = event.id;
      if (event.type === "hookhub.gap") onGap(event.data);
      else onEvent(event);
    },
    moveTo(cursor) {
      after = cursor;
    },
    after: () => after,
  };

  onState("connecting", way);
  while (!signal.aborted) {
    try {
      const access = await getAccess();
      after ??= access.from;
      await WAYS[way](access, line);
    } catch (error) {
      if (signal.aborted) return;
      console.warn(`${way}:`, error);
      if (line.failed()) {
        way = way === "poll" ? wanted : "poll";
        failures = 0;
      }
      await pause(failures, signal);
      onState("connecting", way);
    }
  }
}

// Each transport resolves when its token must be renewed, and rejects when it ends for another reason.
const WAYS = { sse, poll, ws };

function sse(access, line) {
  const source = new EventSource(url(access, "stream", { after: line.after() }));
  return untilItEnds(source, access, line, (end) => {
    source.onmessage = (message) => line.take(JSON.parse(message.data));
    source.onerror = () => {
      // After a lost connection the browser reconnects by itself, with the header Last-Event-ID, which takes precedence
      // over `after`. After an error response (an expired token, too many connections) it does not.
      const givenUp = source.readyState === EventSource.CLOSED;
      if (givenUp) end("refused");
      else if (line.failed()) end("it fails again and again");
      else end.unlessItOpens();
    };
  });
}

function ws(access, line) {
  const address = url(access, "ws", { after: line.after() });
  address.protocol = address.protocol.replace("http", "ws");
  const socket = new WebSocket(address);
  return untilItEnds(socket, access, line, (end) => {
    socket.onmessage = (message) => line.take(JSON.parse(message.data));
    socket.onclose = (closed) => end(`closed: ${closed.code} ${closed.reason}`);
  });
}

// The common part of EventSource and WebSocket: the timeout to open, the renewal, and the end. `listen` gets the
// function that ends the connection: `end(reason)`.
function untilItEnds(stream, access, line, listen) {
  return new Promise((resolve, reject) => {
    let opening;
    const settle = (how, reason) => {
      clearTimeout(opening);
      clearTimeout(renewal);
      line.signal.removeEventListener("abort", renew);
      stream.onopen = stream.onmessage = stream.onerror = stream.onclose = null;
      stream.close();
      how(reason);
    };
    const renew = () => settle(resolve);
    const end = (reason) => settle(reject, new Error(reason));
    end.unlessItOpens = () => {
      clearTimeout(opening);
      opening = setTimeout(end, OPEN_MS, "not open in time");
    };
    const renewal = setTimeout(renew, renewInMs(access));
    line.signal.addEventListener("abort", renew);
    stream.onopen = () => {
      clearTimeout(opening);
      line.opened();
    };
    end.unlessItOpens();
    listen(end);
  });
}

async function poll(access, line) {
  const renewAt = performance.now() + renewInMs(access);
  let caughtUp = false; // the first responses come at once
  while (!line.signal.aborted) {
    const leftS = Math.ceil((renewAt - performance.now()) / 1000);
    if (leftS <= 0) return;
    const wait = caughtUp ? Math.min(POLL_S, leftS) : 0;
    const page = await nextPage(access, line, wait);
    line.opened();
    page.data.forEach(line.take);
    line.moveTo(page.next_cursor);
    caughtUp = !page.has_more;
  }
}

async function nextPage(access, line, wait) {
  const signal = AbortSignal.any([line.signal, AbortSignal.timeout((wait + 10) * 1000)]);
  const response = await fetch(url(access, "events", { after: line.after(), wait, limit: 50 }), { signal });
  const answer = await response.json();
  if (response.ok) return answer;
  // A poll reports a gap by a problem: the cursor has expired, or belongs to another log.
  const gap = { cursor_expired: "expired", invalid_parameter: "unknown" }[answer.code];
  if (!gap || line.after() === "earliest") throw new Error(`${answer.code}: ${answer.detail}`);
  const data = { reason: gap, requested: line.after(), earliest: answer.earliest ?? null };
  line.take({ id: "earliest", type: "hookhub.gap", data });
  return nextPage(access, line, 0);
}

function url({ hub, token }, path, parameters) {
  const address = new URL(`v1/${path}`, hub);
  address.search = new URLSearchParams({ ...parameters, access_token: token });
  return address;
}

function renewInMs({ ttl_s }) {
  return ttl_s * 1000 * RENEW_AT;
}

// Grows after each failure, differs between clients, and ends at once when the phone is online again.
function pause(failures, signal) {
  const longest = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** failures);
  return new Promise((resolve) => {
    const over = () => {
      clearTimeout(timer);
      removeEventListener("online", over);
      signal.removeEventListener("abort", over);
      resolve();
    };
    const timer = setTimeout(over, longest * (0.5 + Math.random() / 2));
    addEventListener("online", over);
    signal.addEventListener("abort", over);
  });
}
