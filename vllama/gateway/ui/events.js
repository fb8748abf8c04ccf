// What happened, newest first.

import { byId, choice, h, keyed } from "./dom.js";
import { clock } from "./format.js";
import { openCard } from "./card.js";
import { changed, store } from "./store.js";

const SHOWN = 250;

let kind = "all";

export function install() {
  choice(byId("event-kinds"), [["all", "All"], ["warnings", "Warnings"]], kind, (value) => {
    kind = value;
    changed();
  });
  byId("event-filter").addEventListener("input", changed);
}

export function show({ events, filled }) {
  const wanted = byId("event-filter").value.trim().toLowerCase();
  const found = [];
  for (let i = events.length - 1; i >= 0 && found.length < SHOWN; i -= 1) if (matches(events[i], wanted)) found.push(events[i]);
  const box = byId("event-list");
  if (!found.length) {
    if (filled) box.replaceChildren(h("p", { class: "empty" }, events.length ? "No event is like that." : "Nothing has happened yet."));
    return;
  }
  if (box.firstElementChild?.matches(".empty")) box.replaceChildren();
  keyed(box, found, (event) => event.number, make, () => {});
}

function matches(event, wanted) {
  if (kind === "warnings" && !event.warning) return false;
  if (!wanted) return true;
  return [event.model ?? "", event.reason, event.message].some((word) => word.toLowerCase().includes(wanted));
}

function make(event) {
  const open = () => {
    const model = store.models.get(event.model);
    if (model) openCard(model);
  };
  return h(
    "div", { class: event.warning ? "event warning" : "event" },
    h("time", { datetime: event.at, title: event.at }, clock(event.at)),
    h("b", {}, event.reason),
    h(
      "span", {},
      event.model ? h("button", { type: "button", class: "name", on: { click: open } }, event.model) : null,
      event.model ? " " : null,
      event.message,
    ),
  );
}
