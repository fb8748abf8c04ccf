// The page as a whole: what is told comes in at one end, and is shown at the other.

import * as access from "./access.js";
import * as card from "./card.js";
import * as devices from "./devices.js";
import { byId, h, keyed, set, text } from "./dom.js";
import * as events from "./events.js";
import { ago, bytes, counted, kindOf } from "./format.js";
import * as keys from "./keys.js";
import { Live } from "./live.js";
import * as logs from "./logs.js";
import * as models from "./models.js";
import * as servers from "./servers.js";
import { amend, changed, fill, onChange, severalNodes, store } from "./store.js";
import * as timeline from "./timeline.js";
import * as tips from "./tip.js";

const WORDS = { connecting: "Connecting", live: "Live", lost: "Reconnecting", refused: "Not allowed" };
const TICK_MS = 1000;

const live = new Live();
let version = null;

function begin() {
  tips.install();
  access.install(() => live.restart());
  for (const part of [devices, timeline, models, events, logs, servers, card]) part.install();
  keys.install({ toModels: models.focusFirst });
  for (const part of [devices, models, events, logs, servers]) onChange(part.show);
  onChange(sums);
  live.addEventListener("state", ({ detail }) => taken(detail));
  live.addEventListener("change", ({ detail }) => {
    if (amend(detail)) timeline.refresh();
  });
  live.addEventListener("link", ({ detail }) => linked(detail));
  setInterval(() => !document.hidden && store.filled && changed(), TICK_MS); // times go on
  changed();
  live.run();
}

function taken(state) {
  if (version !== null && version !== state.about.version) location.reload(); // the page of another version
  version = state.about.version;
  const back = store.filled;
  fill(state);
  timeline.restart();
  if (back) logs.again();
}

function linked({ state, message, status }) {
  const link = byId("link");
  set(link, "data-state", state);
  text(link.lastElementChild, WORDS[state]);
  set(link, "title", message || null);
  set(document.body, "data-link", state);
  if (state === "refused") access.refused(message, status, () => live.restart());
  if (state === "live") access.welcome();
}

/** The numbers of the whole house, and what somebody should look at. */
function sums({ about, conditions, memory, models: all, filled }) {
  if (!filled) return;
  const each = [...all.values()];
  const count = (kind) => each.filter((model) => kindOf(model.phase) === kind).length;
  const sum = (name) => each.reduce((total, model) => total + model[name], 0);
  const pages = memory.nodes.flatMap((node) => node.devices);
  const free = pages.reduce((total, page) => total + Math.max(0, page.room_bytes ?? 0), 0);
  const size = pages.reduce((total, page) => total + page.total_bytes, 0);
  const waiting = sum("waiting");
  const rows = [
    ["Awake", count("awake"), count("changing") ? `${count("changing")} changing` : ""], ["Asleep", count("asleep"), ""],
    ["In flight", sum("in_flight"), ""], ["Waiting", waiting, waiting ? "for a model" : ""],
    ["Free memory", bytes(free), `of ${bytes(size)}`],
  ];
  const away = memory.nodes.filter((node) => (node.state ?? "ready") !== "ready");
  const ready = memory.nodes.length - away.length;
  const why = away.map((node) => `${node.name} ${node.state}`).join(", ");
  if (severalNodes()) rows.splice(4, 0, ["Machines", ready, away.length ? `of ${memory.nodes.length}; ${why}` : "ready"]);
  set(byId("sums"), "data-machines", severalNodes());
  keyed(byId("sums"), rows, ([name]) => name, make, (box, [name, value, more]) => {
    text(box.children[0], name);
    text(box.children[1].children[0], value);
    text(box.children[1].children[1], more);
    set(box, "data-warn", (name === "Waiting" && waiting > 0) || (name === "Machines" && away.length > 0));
  });
  const wrong = conditions.filter((condition) => !condition.ok);
  byId("conditions").hidden = !wrong.length;
  keyed(byId("conditions"), wrong, (condition) => condition.type, () => h("li", {}, h("b", {}), h("span", {})), (line, condition) => {
    text(line.children[0], condition.type);
    text(line.children[1], condition.message || condition.reason);
  });
  text(byId("about"), about.runs_on ?? "");
  const began = about.started_at ? `, began ${ago(about.started_at, Date.now())}` : "";
  text(byId("foot"), `vllama ${about.version}${began} · ${counted(all.size, "model")} · press ? for keys`);
  const title = [waiting ? `${waiting} waiting` : "", `${count("awake")} awake`].filter(Boolean).join(", ");
  if (document.title !== `vllama · ${title}`) document.title = `vllama · ${title}`;
}

const make = () => h("div", {}, h("dt", {}), h("dd", {}, h("b", {}), h("span", {})));

begin();
