// Before anything is done: what it would lead to, step by step, by the server's own planner.

import { byId, h, refill, set, text, toast } from "./dom.js";
import { ask, json, modelPath } from "./api.js";
import { bytes, counted, device, kindOf, places, span } from "./format.js";
import { amend, severalNodes, store } from "./store.js";

const ANEW_MS = 3000;
const SIGNS = { start: "+", wake: "+", sleep: "~", stop: "−", under_way: "…", requests: "…", pause: "…" };
const TITLES = { start: "Start", sleep: "Put to sleep", stop: "Stop" };
const LEVELS = [["", "As vllama chooses"], ["1", "Level 1: weights to host memory"], ["2", "Level 2: weights dropped"]];

let open = null; // { model, verb, level, timer }

export function openPlan(model, verb) {
  if (!verb || byId("plan").open) return;
  const dialog = byId("plan");
  open = { model: model.model, verb, level: "", timer: null, shown: "" };
  const wakes = verb === "start" && model.phase === "Asleep";
  const title = wakes ? "Wake" : TITLES[verb];
  const go = h("button", { type: "button", class: "primary", id: "plan-go", disabled: true, on: { click: act } }, title);
  const cancel = h("button", { type: "button", id: "plan-cancel", autofocus: true, on: { click: () => dialog.close() } }, "Cancel");
  refill(
    dialog,
    h("h2", { id: "plan-title" }, `${title} `, h("span", { class: "what" }, model.model), "?"),
    verb === "sleep" ? levels() : null,
    h("div", { id: "plan-body", class: "plan", "aria-live": "polite", "aria-busy": "true" }, h("p", { class: "muted" }, "Working out the plan…")),
    h("div", { class: "foot" }, cancel, go),
  );
  dialog.onclose = () => {
    clearTimeout(open?.timer);
    open = null;
  };
  dialog.showModal();
  cancel.focus();
  foresee();
}

function levels() {
  const change = (event) => {
    open.level = event.target.value;
    clearTimeout(open.timer);
    foresee();
  };
  const select = h("select", { id: "plan-level", on: { change } }, ...LEVELS.map(([value, label]) => h("option", { value }, label)));
  return h("label", { class: "field" }, "Level ", select);
}

/** Asked anew while the dialog is open, as the plan is that of the moment. */
async function foresee() {
  const mine = open;
  const query = new URLSearchParams({ model: mine.model, verb: mine.verb });
  if (mine.level) query.set("level", mine.level);
  const level = mine.level;
  try {
    const told = await json(`admin/plan/wish?${query}`);
    if (open !== mine || level !== mine.level) return;
    const said = JSON.stringify(told);
    if (said !== mine.shown) refill(byId("plan-body"), ...steps(told));
    mine.shown = said;
    byId("plan-go").disabled = false;
  } catch (error) {
    if (open !== mine) return;
    byId("plan-body").replaceChildren(h("p", { class: "bad" }, error.message));
    byId("plan-go").disabled = true;
    mine.shown = "";
  }
  set(byId("plan-body"), "aria-busy", "false");
  mine.timer = setTimeout(foresee, ANEW_MS);
}

function steps(told) {
  const [asked] = told.asked;
  const found = told.steps.map(step);
  return [
    verdict(asked),
    waiters(),
    found.length ? h("ol", { class: "steps" }, ...found) : h("p", { class: "muted" }, "Nothing has to be done for it."),
    told.steps.length ? rooms(told.before, told.after) : null,
    told.steps.some((each) => each.takes.assumed)
      ? h("p", { class: "muted small" }, "~ never measured here: what such a step usually takes.")
      : null,
  ];
}

function verdict(asked) {
  const at = span(asked.waits);
  const quick = asked.waits.seconds < 0.05 && !asked.waits.unknown;
  switch (asked.outcome) {
    case "ready":
      return h("p", { class: "verdict good" }, quick ? "It is ready already." : `Ready after ${at}.`);
    case "put_down":
      return h("p", { class: "verdict good" }, `${quick ? "It is down already." : `Down after ${at}.`} ${back()}`);
    case "refused":
      return h("p", { class: "verdict bad" }, `It would be refused. ${asked.reason}: ${asked.message}`);
    default:
      return h("p", { class: "verdict warn" }, `It would wait, nobody knows for how long. ${asked.reason}: ${asked.message}`);
  }
}

function back() {
  return store.models.get(open.model)?.pinned ? "It is pinned: only a start brings it back." : "A later request or a start brings it back.";
}

function waiters() {
  const waiting = store.models.get(open.model)?.waiting;
  if (!waiting || open.verb === "start") return null;
  return h("p", { class: "verdict warn" }, `${counted(waiting, "request")} that wait for it are refused at once.`);
}

function step(each) {
  const where = [places(each, severalNodes()), each.level && ["sleep", "wake"].includes(each.kind) ? `level ${each.level}` : ""];
  const begins = each.begins.seconds < 0.05 && !each.begins.unknown ? "at once" : `after ${span(each.begins)}`;
  const facts = [...where, begins, `takes ${span(each.takes)}`].filter(Boolean).join(" · ");
  const why = `${each.reason ? `${each.reason}: ` : ""}${each.message}${each.anyway ? " It would happen anyway." : ""}`;
  return h(
    "li", { class: `step ${each.kind}` },
    h("i", { "aria-hidden": "true" }, SIGNS[each.kind] || "…"),
    h(
      "div", {},
      h("div", { class: "step-head" }, h("b", {}, each.model), phases(each), h("span", { class: "muted" }, facts)),
      h("p", { class: "muted" }, why),
    ),
  );
}

function phases(each) {
  const pill = (phase) => h("span", { class: `pill ${kindOf(phase)}` }, h("i", {}), phase);
  if (each.before === each.after) return pill(each.before);
  return h("span", { class: "move" }, pill(each.before), h("span", { "aria-label": "to" }, "→"), pill(each.after));
}

/** Free memory before and after, where it changes. */
function rooms(before, after) {
  const several = before.nodes.length > 1;
  const rows = before.nodes.flatMap((node, n) => [
    ...node.devices.map((page, d) => [device(node.name, page.index, several), page.room_bytes, after.nodes[n].devices[d].room_bytes]),
    [`${several ? `${node.name}:` : ""}host copies`, node.host.left_bytes, after.nodes[n].host.left_bytes],
  ]);
  const changes = rows.filter(([, now, then]) => now !== then);
  if (!changes.length) return null;
  return h(
    "table", { class: "rooms" },
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Free memory"), h("th", { scope: "col", class: "num" }, "now"), h("th", { scope: "col", class: "num" }, "then"))),
    h("tbody", {}, ...changes.map(([name, now, then]) =>
      h("tr", {}, h("th", { scope: "row" }, name), h("td", { class: "num" }, bytes(now)), h("td", { class: "num" }, bytes(then))))),
  );
}

async function act() {
  const { model, verb, level } = open;
  const go = byId("plan-go");
  go.disabled = true;
  const body = verb === "sleep" && level ? { level: Number(level) } : null;
  try {
    const status = await (await ask(modelPath(model, `/${verb}`), { method: "POST", body })).json();
    const known = store.models.get(status.model);
    if (known) amend({ models: [{ ...known, ...status }] });
    byId("plan").close();
    toast({ start: `${model} is asked to come up.`, sleep: `${model} is asked to sleep.`, stop: `${model} is asked to stop.` }[verb]);
  } catch (error) {
    go.disabled = false;
    text(byId("plan-body").appendChild(h("p", { class: "bad" })), error.message);
  }
}
