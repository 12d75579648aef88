// Reports what the phone page shows.
import { report } from "./report.js";

const find = (id) => document.getElementById(id);
const watch = (id, what, onChange) => new MutationObserver(onChange).observe(find(id), what);

watch("history", { childList: true }, (changes) => {
  const added = changes.flatMap((change) => [...change.addedNodes]);
  added.forEach((item) => report({ event: item.id }));
});
watch("connection", { attributes: true, childList: true }, () => {
  const { state, way } = find("connection").dataset;
  report({ state: `${state} ${way}` });
});
watch("gap", { attributes: true }, () => report({ gap: true }));
watch("now", { childList: true }, () => {
  const now = find("now").textContent;
  if (now !== "Delivered") return;
  const current = document.querySelector("[aria-current=step]").textContent;
  report({ answer: { now, current, done: document.querySelectorAll("#steps .done").length } });
});
