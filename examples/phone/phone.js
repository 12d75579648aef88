// Shows one order: ?order=A-1001. &way=poll or &way=ws selects another transport than Server-Sent Events.
import { follow } from "./follow.js";

const STEPS = {
  created: "We have your order",
  paid: "Payment received",
  packed: "Packed",
  shipped: "On its way",
  delivered: "Delivered",
};
const WAYS = { sse: "Live", poll: "Live, by long poll", ws: "Live, by WebSocket" };
const STATES = { connecting: "Connecting…", lost: "Connection lost, trying again…" };

const asked = new URLSearchParams(location.search);
const order = asked.get("order") ?? "A-1001";
const way = asked.get("way") in WAYS ? asked.get("way") : "sse";

const find = (id) => document.getElementById(id);
const time = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

// The app's own backend decides whether its user may see this order, and gets a token from the hub.
async function getAccess() {
  const request = { method: "POST", signal: AbortSignal.timeout(10_000) };
  const response = await fetch(`token?order=${encodeURIComponent(order)}`, request);
  if (!response.ok) throw new Error(`no token: ${response.status} ${await response.text()}`);
  return response.json();
}

function showSteps(reached) {
  const names = Object.keys(STEPS);
  const at = names.indexOf(reached);
  find("now").textContent = STEPS[reached] ?? "Waiting for news of this order";
  [...find("steps").children].forEach((item, index) => {
    item.classList.toggle("done", index <= at);
    if (index === at) item.setAttribute("aria-current", "step");
    else item.removeAttribute("aria-current");
  });
}

function showEvent(event) {
  const name = event.type.split(".").at(-1);
  if (name in STEPS) showSteps(name);
  const item = document.createElement("li");
  item.id = event.id;
  const when = document.createElement("time");
  when.dateTime = event.timestamp;
  when.textContent = time.format(new Date(event.timestamp));
  item.append(STEPS[name] ?? event.data?.text ?? name, when);
  find("history").prepend(item);
}

// The hub continues with the oldest retained event. The history of another log does not belong here.
function showGap({ reason }) {
  if (reason === "unknown") {
    find("history").replaceChildren();
    showSteps(null);
  }
  find("gap").hidden = false;
}

function showState(state, way) {
  const shown = find("connection");
  Object.assign(shown.dataset, { state, way });
  shown.textContent = STATES[state] ?? WAYS[way];
}

find("order").textContent = order;
find("steps").replaceChildren(
  ...Object.values(STEPS).map((text) => {
    const item = document.createElement("li");
    item.textContent = text;
    return item;
  }),
);
showSteps(null);

// A hidden page closes its connection. A page that is shown again starts over.
const leaving = new AbortController();
addEventListener("pagehide", () => leaving.abort());
addEventListener("pageshow", (shown) => shown.persisted && location.reload());
follow({ getAccess, way, signal: leaving.signal, onEvent: showEvent, onGap: showGap, onState: showState });
