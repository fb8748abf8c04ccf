// The table of models: where each is and why, who waits, and the buttons. Rows stay where they are while things change.

import { byId, choice, h, keyed, set, text } from "./dom.js";
import { ago, bytes, kindOf, parted, places, seconds } from "./format.js";
import { openCard } from "./card.js";
import { openPlan } from "./plan.js";
import { changed, severalNodes } from "./store.js";
import { tip } from "./tip.js";
import { verbsOf, wordOf } from "./verbs.js";

const COLUMNS = [
  ["model", "Model"], ["phase", "Phase"], ["why", "Why"], ["in_flight", "In flight", true], ["waiting", "Queue", true],
  ["eta", "Ready in", true], ["where", "Where"], ["memory", "Memory", true], ["used", "Last used", true], ["acts", ""],
];
const KINDS = [["all", "All"], ["awake", "Awake"], ["changing", "Changing"], ["asleep", "Asleep"], ["stopped", "Stopped"],
  ["failed", "Failed"], ["waited", "Waited for"]];
const LIVELY = ["changing", "awake", "failed", "asleep", "stopped"];
const SORTS = {
  model: (a, b) => a.model.localeCompare(b.model),
  phase: (a, b) => rank(a) - rank(b),
  why: (a, b) => a.reason.localeCompare(b.reason),
  in_flight: (a, b) => b.in_flight - a.in_flight,
  waiting: (a, b) => b.waiting - a.waiting,
  eta: (a, b) => (a.ready_at ? Date.parse(a.ready_at) : Infinity) - (b.ready_at ? Date.parse(b.ready_at) : Infinity) || 0,
  where: (a, b) => (a.node ?? "~").localeCompare(b.node ?? "~") || (a.devices[0] ?? 1e6) - (b.devices[0] ?? 1e6),
  memory: (a, b) => (b.memory_bytes ?? -1) - (a.memory_bytes ?? -1),
  used: (a, b) => (b.last_used ?? "").localeCompare(a.last_used ?? ""),
};

let kind = "all";
let cached = false; // also those that are only in the model cache
const order = { by: "phase", turned: false };
let chips;
let body;
let more;

export function install() {
  chips = choice(byId("phases"), KINDS, kind, (value) => {
    kind = value;
    changed();
  });
  byId("filter").addEventListener("input", changed);
  const heads = COLUMNS.map(([name, label, right]) =>
    h(
      "th", { role: "columnheader", scope: "col", class: right ? `num c-${name}` : `c-${name}`, "data-column": name },
      name in SORTS ? h("button", { type: "button", on: { click: () => sortBy(name) } }, label) : h("span", { class: "hidden" }, "Actions"),
    ),
  );
  body = h("tbody", { role: "rowgroup" });
  more = h("p", { class: "empty", hidden: true });
  const table = h(
    "table", { role: "table", "aria-labelledby": "models-title" },
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, ...heads)), body,
  );
  byId("model-table").append(h("div", { class: "panel wide" }, table, more));
  body.addEventListener("keydown", onKey);
}

/** What is going on comes first, and what only lies there last; awake or on the way makes no rows jump. */
function rank(model) {
  const place = LIVELY.indexOf(kindOf(model.phase));
  return place <= 1 || model.waiting || model.in_flight ? 0 : place;
}

function sortBy(name) {
  order.turned = order.by === name && !order.turned;
  order.by = name;
  changed();
}

export function show({ models, filled }) {
  const all = [...models.values()];
  const known = all.filter((model) => cached || !onlyCached(model));
  const counts = new Map(KINDS.map(([value]) => [value, known.filter((model) => isOf(model, value)).length]));
  for (const [value, label] of KINDS) {
    chips.relabel(value, `${label} ${counts.get(value)}`);
    chips.button(value).hidden = value !== "all" && value !== kind && !counts.get(value);
  }
  const wanted = byId("filter").value.trim().toLowerCase();
  const rows = known.filter((model) => isOf(model, kind) && matches(model, wanted));
  rows.sort((a, b) => (order.turned ? -1 : 1) * SORTS[order.by](a, b) || SORTS.model(a, b));
  for (const head of document.querySelectorAll("#model-table th")) {
    const mine = head.dataset.column === order.by;
    set(head, "aria-sort", mine ? (order.turned ? "descending" : "ascending") : null);
  }
  keyed(body, rows, (model) => model.model, make, update);
  const hidden = all.length - all.filter((model) => !onlyCached(model)).length;
  said(filled, all.length, rows.length, hidden);
}

function said(filled, count, shown, hidden) {
  more.hidden = !filled || (shown > 0 && !hidden);
  if (more.hidden) return;
  const parts = [];
  if (!count) parts.push("No models yet: declare one in models.yaml, or put one into the model cache.");
  else if (!shown && (byId("filter").value || kind !== "all")) parts.push("No model is like that. ");
  if (hidden) {
    const flip = () => {
      cached = !cached;
      changed();
    };
    const label = cached ? "Hide those that are only in the model cache" : `Show ${hidden} more in the model cache`;
    if (more.querySelector("button")?.textContent === label && !parts.length) return;
    parts.push(h("button", { type: "button", class: "quiet", on: { click: flip } }, label));
  }
  more.replaceChildren(...parts);
}

/** Never declared, not running, and nothing to say about it. */
function onlyCached(model) {
  return !model.declared && model.phase === "Stopped" && !model.waiting && ["", "NotWanted"].includes(model.reason) && !model.servers.length;
}

function isOf(model, value) {
  if (value === "all") return true;
  return value === "waited" ? model.waiting > 0 : kindOf(model.phase) === value;
}

function matches(model, wanted) {
  if (!wanted) return true;
  const words = [model.model, model.phase, model.reason, ...model.aliases, ...model.adapters, places(model, severalNodes())];
  return words.some((word) => word.toLowerCase().includes(wanted));
}

function make() {
  const cells = COLUMNS.map(([name, label, right]) =>
    h("td", { role: "cell", class: right ? `num c-${name}` : `c-${name}`, "data-label": label }),
  );
  const row = h("tr", { role: "row" }, ...cells);
  const cell = Object.fromEntries(COLUMNS.map(([name], index) => [name, cells[index]]));
  const name = h("button", { type: "button", class: "name", on: { click: () => openCard(row.model) } }, h("span", {}), h("b", {}));
  cell.model.append(name, h("span", { class: "tags" }));
  cell.phase.append(h("span", { class: "pill" }, h("i", {}), h("span", {})));
  cell.why.append(h("span", { class: "reason" }), h("span", { class: "message" }));
  const first = h("button", { type: "button", class: "act", on: { click: () => openPlan(row.model, row.verb) } });
  const stop = h("button", { type: "button", class: "act", on: { click: () => openPlan(row.model, "stop") } }, "Stop");
  cell.acts.append(first, stop);
  Object.assign(row, { cell, name, first, stop });
  tip(cell.why, () => [row.model.reason || "Nothing to say", saying(row.model)]);
  return row;
}

function update(row, model) {
  row.model = model;
  const { cell } = row;
  const now = Date.now();
  const [org, rest] = parted(model.model);
  text(row.name.children[0], org);
  text(row.name.children[1], rest);
  set(row.name, "title", model.aliases.length ? `${model.model} (also ${model.aliases.join(", ")})` : model.model);
  const tags = [model.pinned && "pinned", model.replica_of && `replica ${model.replica}`, model.servers.length && "on servers"];
  text(cell.model.lastElementChild, tags.filter(Boolean).join(" · "));
  set(row, "data-kind", kindOf(model.phase));
  set(cell.phase.firstElementChild, "class", `pill ${kindOf(model.phase)}`);
  text(cell.phase.firstElementChild.lastElementChild, model.sleep_level ? `${model.phase} L${model.sleep_level}` : model.phase);
  text(cell.why.children[0], model.reason === "NotWanted" ? "" : model.reason);
  text(cell.why.children[1], saying(model));
  number(cell.in_flight, model.in_flight);
  number(cell.waiting, model.waiting);
  set(cell.waiting, "data-high", model.waiting > 0);
  text(cell.eta, model.ready_at ? seconds(Math.max(0, (Date.parse(model.ready_at) - now) / 1000)) : "–");
  set(cell.eta, "data-none", !model.ready_at);
  text(cell.where, places(model, severalNodes()) || model.servers.map(hostOf).join(" ") || "–");
  set(cell.where, "data-none", !model.devices.length && !model.servers.length);
  text(cell.memory, model.memory_bytes === null ? "–" : bytes(model.memory_bytes));
  set(cell.memory, "data-none", model.memory_bytes === null);
  text(cell.used, model.in_flight ? "now" : ago(model.last_used, now));
  set(cell.used, "data-none", !model.last_used && !model.in_flight);
  buttons(row, model);
}

/** On its way up also what its engine is at. */
function saying(model) {
  return model.stage ? `${model.stage[0].toUpperCase()}${model.stage.slice(1)}. ${model.message}` : model.message;
}

function number(cell, value) {
  text(cell, value);
  set(cell, "data-none", !value);
}

function hostOf(url) {
  return url.slice(url.indexOf("://") + 3);
}

function buttons(row, model) {
  const verbs = verbsOf(model);
  row.verb = verbs.find((verb) => verb !== "stop");
  set(row.first, "data-absent", !row.verb);
  row.first.disabled = !row.verb;
  text(row.first, row.verb ? wordOf(row.verb, model) : "Start");
  set(row.first, "aria-label", row.verb ? `${wordOf(row.verb, model)} ${model.model}` : null);
  const stops = verbs.includes("stop");
  set(row.stop, "data-absent", !stops);
  row.stop.disabled = !stops;
  set(row.stop, "aria-label", `Stop ${model.model}`);
}

/** On a row: arrows go up and down, s z x ask. */
function onKey(event) {
  const row = event.target.closest("tr");
  if (!row || event.ctrlKey || event.metaKey || event.altKey) return;
  const verb = { s: "start", z: "sleep", x: "stop" }[event.key];
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    const next = event.key === "ArrowDown" ? row.nextElementSibling : row.previousElementSibling;
    if (next) {
      event.preventDefault();
      next.name.focus();
    }
  } else if (verb && verbsOf(row.model).includes(verb)) {
    event.preventDefault();
    event.stopPropagation();
    openPlan(row.model, verb);
  }
}

export function focusFirst() {
  body.querySelector("button.name")?.focus();
}
