// All that is known of one model, in a drawer.

import { byId, h, refill } from "./dom.js";
import { json, modelPath } from "./api.js";
import { ago, bytes, clock, kindOf, places, seconds } from "./format.js";
import { showLog } from "./logs.js";
import { openPlan } from "./plan.js";
import { onChange, severalNodes, store } from "./store.js";
import { verbsOf, wordOf } from "./verbs.js";

const FIGURES = [
  ["awake_bytes", "Awake, per device", bytes], ["asleep_bytes", "Asleep, per device", bytes], ["weights_bytes", "Weights", bytes],
  ["cache_bytes", "KV cache, per device", bytes], ["host_copy_bytes", "Host copy asleep", bytes], ["load_s", "Start takes", seconds],
  ["wake_s", "Wake takes", seconds], ["sleep_s", "Sleep takes", seconds],
];

let open = null; // { model, top, phase }

export function openCard(model) {
  const dialog = byId("card");
  if (dialog.open) dialog.close();
  const top = h("div", { class: "card-now" });
  const rest = h("div", { class: "card-rest", "aria-busy": "true" }, h("p", { class: "muted" }, "Asking…"));
  const close = h("button", { type: "button", class: "quiet icon", "aria-label": "Close", on: { click: () => dialog.close() } }, "✕");
  refill(dialog, h("div", { class: "head" }, h("h2", { id: "card-title" }, model.model), close), top, rest);
  open = { model: model.model, top, rest, phase: null };
  dialog.onclose = () => {
    open = null;
  };
  dialog.showModal();
  show();
}

export function install() {
  onChange(show);
}

function show() {
  const status = open && store.models.get(open.model);
  if (!status) return;
  refill(open.top, now(status));
  if (open.phase !== status.phase) {
    open.phase = status.phase;
    fetchRest(open, status);
  }
}

async function fetchRest(mine, status) {
  let parts;
  const path = modelPath(status.replica_of || status.model);
  try {
    const [card, why] = await Promise.all([json(path), json(`${path}/why`)]);
    const engine = why.engines.find(({ decision }) => decision.model === status.model) ?? why.engines[0];
    parts = [...because(engine), ...details(card, status)];
  } catch (error) {
    parts = [h("p", { class: "bad" }, error.message)];
  }
  if (open !== mine) return;
  refill(mine.rest, parts);
  mine.rest.removeAttribute("aria-busy");
}

function now(status) {
  const verbs = verbsOf(status);
  const facts = [
    ["In flight", status.in_flight], ["Waiting", status.waiting], ["Where", places(status, severalNodes()) || "–"],
    ["Memory", status.memory_bytes === null ? "–" : bytes(status.memory_bytes)], ["Last used", ago(status.last_used, Date.now())],
  ];
  if (status.ready_at) facts.unshift(["Ready in", seconds(Math.max(0, (Date.parse(status.ready_at) - Date.now()) / 1000))]);
  return [
    h("p", { class: "now" }, h("span", { class: `pill ${kindOf(status.phase)}` }, h("i", {}), status.phase), h("b", {}, ` ${status.reason}`)),
    h("p", {}, status.message),
    list(facts),
    h(
      "div", { class: "row-of-buttons" },
      ...verbs.map((verb) => h("button", { type: "button", on: { click: () => ask(status, verb) } }, wordOf(verb, status))),
      h("button", { type: "button", on: { click: () => toLog(status.model) } }, "Log"),
    ),
  ];
}

function ask(status, verb) {
  byId("card").close();
  openPlan(status, verb);
}

function toLog(model) {
  byId("card").close();
  showLog(model);
}

/** What would change it, and what was decided about it. */
function because(engine) {
  if (!engine) return [];
  const then = ({ then: { before, after, reason, message } }) =>
    h("span", {}, before === after ? "" : h("span", { class: `pill ${kindOf(after)}` }, h("i", {}), after), ` ${reason}: ${message}`);
  return [
    h("p", { class: "muted" }, engine.decision.sentence),
    engine.otherwise.length > 0 &&
      part("What would change it", h("ul", { class: "others" }, ...engine.otherwise.map((each) => h("li", {}, h("b", {}, `If ${each.if}`), then(each))))),
    engine.decisions.length > 0 &&
      part("Decided", happened([...engine.decisions].reverse())),
  ];
}

const happened = (events) =>
  h("ul", { class: "lately" }, ...events.map(({ at, reason, message }) =>
    h("li", {}, h("time", { datetime: at, title: at }, clock(at)), h("b", {}, reason), h("span", {}, message))));

function details(card, status) {
  const figures = FIGURES.filter(([name]) => card.figures[name] !== null).map(([name, label, say]) => [
    label, say(card.figures[name]), card.figures.sources[name] || "",
  ]);
  const settings = card.settings.filter((setting) => !setting.default);
  return [
    card.failures &&
      h("p", { class: "verdict bad" }, `Failed ${card.failures.count} times, last ${ago(card.failures.last_at, Date.now())}: ${card.failures.cause}`),
    status.aliases.length > 0 && part("Also called", h("p", {}, status.aliases.join(", "))),
    figures.length > 0 && part("Memory and times", list(figures)),
    card.engine &&
      part("Engine", list([["Process", card.engine.pid ?? "–"], ["Port", card.engine.port ?? "–"], ["Started", ago(card.engine.started_at, Date.now())],
        ["Settings", card.engine.current ? "as in models.yaml" : "older than models.yaml"]])),
    settings.length > 0 && part("Settings", list(settings.map(({ name, value }) => [name, said(name, value)]))),
    card.lately.length > 0 &&
      part("Happened lately", happened([...card.lately].reverse())),
  ];
}

function said(name, value) {
  if (name === "memory" && typeof value === "number") return bytes(value);
  if (/^idle\..*_after$/.test(name) && typeof value === "number") return seconds(value);
  return typeof value === "string" ? value : JSON.stringify(value);
}

const part = (title, content) => h("section", {}, h("h3", {}, title), content);

function list(rows) {
  return h("dl", { class: "facts" }, ...rows.map(([label, value, more]) =>
    h("div", {}, h("dt", {}, label), h("dd", { class: "num" }, String(value), more ? h("span", { class: "muted" }, ` ${more}`) : null))));
}
