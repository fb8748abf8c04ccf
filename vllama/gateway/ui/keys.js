// Everything by keyboard, and a page that says how.

import { byId, h } from "./dom.js";
import { hide } from "./tip.js";

const KEYS = [
  ["/", "Filter the models"],
  ["1 – 6", "Go to devices, timeline, models, events, logs, servers"],
  ["↑ ↓", "From model to model"],
  ["Enter", "All about the model"],
  ["s", "Start or wake the model that has the focus"],
  ["z", "Put it to sleep"],
  ["x", "Stop it"],
  ["← →", "In a bar or the timeline: from piece to piece, with its numbers"],
  ["t", "Theme: as the system, light, dark"],
  ["Esc", "Close, or leave the filter"],
  ["?", "This help"],
];
const SECTIONS = ["devices", "timeline", "models", "events", "logs", "servers"];

export function install({ toModels }) {
  const help = byId("help");
  help.append(
    h("h2", { id: "help-title" }, "Keyboard"),
    h("dl", { class: "keys" }, ...KEYS.map(([key, what]) => h("div", {}, h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)))),
    h("p", { class: "muted small" }, "Start, sleep and stop always show the plan first."),
    h("div", { class: "foot" }, h("button", { type: "button", class: "primary", autofocus: true, on: { click: () => help.close() } }, "Close")),
  );
  byId("help-open").addEventListener("click", () => help.showModal());
  byId("filter").addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      event.target.value = "";
      event.target.dispatchEvent(new Event("input"));
      event.target.blur();
    } else if (event.key === "ArrowDown" || event.key === "Enter") {
      event.preventDefault();
      toModels();
    }
  });
  addEventListener("keydown", (event) => {
    if (event.key === "Escape") hide();
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.target instanceof Element && event.target.closest("input, select, textarea")) return;
    const section = SECTIONS[Number(event.key) - 1];
    if (event.key === "?") help.showModal();
    else if (event.key === "/") byId("filter").focus();
    else if (event.key === "t") dispatchEvent(new Event("vllama:theme"));
    else if (event.key === "ArrowDown" && event.target === byId("models")) toModels();
    else if (section && !byId(section).hidden) go(section);
    else return;
    event.preventDefault();
  });
  for (const link of document.querySelectorAll('nav a, a.skip')) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      go(link.hash.slice(1));
    });
  }
}

function go(section) {
  byId(section).scrollIntoView({ block: "start" });
  byId(section).focus({ preventScroll: true });
}
