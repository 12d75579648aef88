// Reports events of the page to the test, in order.
const waiting = [];
let sending = false;

export async function report(line) {
  waiting.push(line);
  if (sending) return;
  sending = true;
  while (waiting.length > 0) {
    await fetch("/report", { method: "POST", body: JSON.stringify(waiting.splice(0)) });
  }
  sending = false;
}

addEventListener("error", ({ message }) => report({ wrong: message }));
addEventListener("unhandledrejection", ({ reason }) => report({ wrong: String(reason) }));

// What the backend gives a page to read with.
export async function access() {
  return (await fetch("/token", { method: "POST" })).json();
}
