// Who was awake where, and why it changed: drawn from /admin/history, and extended as it goes on.

import { byId, choice, h, s, set } from "./dom.js";
import { json } from "./api.js";
import { openCard } from "./card.js";
import { clock, device, hhmm, hue, kindOf, parted, seconds } from "./format.js";
import { severalNodes, store } from "./store.js";
import { hide, stepping, tip } from "./tip.js";
import { lanes, gone } from "./spans.js";

const SPANS = [[900, "15 min"], [3600, "1 h"], [21600, "6 h"]];
const ROWS = [["device", "By device"], ["model", "By model"]];
const STEPS_S = [60, 120, 300, 600, 900, 1800, 3600, 7200];
const DRAW_MS = 4000;
const ASK_MS = 2000;
const LANE = 20;
const AXIS = 22;
const MOST = 4000; // elements

const view = { seconds: 3600, by: "device", spans: [], began: [], from: Infinity, behind: 0, failed: "" };
let asked = 0;
let timer = null;
let svg;

export function install() {
  choice(byId("timeline-span"), SPANS, view.seconds, (value) => {
    view.seconds = value;
    if (view.from > Date.now() / 1000 - value) view.from = Infinity;
    ask();
  });
  choice(byId("timeline-rows"), ROWS, view.by, (value) => {
    view.by = value;
    draw();
  });
  const panel = byId("timeline-panel");
  svg = s("svg", { tabindex: "0", role: "group", "aria-label": "Timeline. Arrow keys step through what happened.", class: "timeline" });
  stepping(svg, () => [...svg.querySelectorAll(".span")]);
  svg.addEventListener("keydown", (event) => {
    const at = event.key === "Enter" && svg.querySelector("[data-at]");
    if (at) open(at.vllamaModel);
  });
  panel.append(svg, h("p", { class: "empty", hidden: true }));
  new ResizeObserver(draw).observe(panel);
  setInterval(() => {
    if (!document.hidden && !svg.querySelector("[data-at]")) draw();
  }, DRAW_MS);
}

/** Something changed: ask for what is new, soon, and not again and again. */
export function refresh() {
  if (timer !== null) return;
  timer = setTimeout(() => {
    timer = null;
    ask();
  }, Math.max(200, asked + ASK_MS - Date.now()));
}

/** From the beginning, as another server may have begun. */
export function restart() {
  view.from = Infinity;
  ask();
}

async function ask() {
  asked = Date.now();
  const known = view.from !== Infinity && view.until;
  const far = known ? Math.min(view.seconds, asked / 1000 + view.behind - view.until + 5) : view.seconds;
  try {
    const told = await json(`admin/history?seconds=${Math.ceil(far)}`);
    // what ended before the time that was asked for is known already; all else was told anew
    const old = known ? view.spans.filter((span) => span.to_s !== null && span.to_s <= told.from_s) : [];
    view.spans = [...old, ...told.spans];
    view.began = [...new Set([...(known ? view.began : []), ...told.began_s])];
    view.from = known ? view.from : told.from_s;
    view.until = told.now_s;
    view.behind = told.now_s - Date.now() / 1000; // the server's clock may be another
    view.failed = "";
  } catch (error) {
    view.failed = error.message;
  }
  const since = (view.until ?? 0) - 21600;
  view.spans = view.spans.filter((span) => span.to_s === null || span.to_s > since);
  draw();
}

const now = () => Date.now() / 1000 + view.behind;

function draw() {
  const panel = byId("timeline-panel");
  const width = panel.clientWidth - 24;
  const empty = panel.querySelector(".empty");
  const to = now();
  const from = to - view.seconds;
  const seen = view.spans.filter((span) => (span.to_s ?? to) > from);
  const rows = view.by === "device" ? byDevice(seen, to) : byModel(seen);
  const nothing = !seen.some((span) => span.phase !== "Stopped");
  empty.hidden = rows.length > 0 && !nothing;
  empty.textContent = view.failed || (store.filled ? "Nothing was awake in this time." : "");
  set(svg, "data-empty", !rows.length);
  if (width < 50 || !rows.length) {
    svg.replaceChildren();
    return;
  }
  const gutter = view.by === "device" ? (severalNodes() ? 96 : 52) : Math.min(190, Math.round(width * 0.28));
  const height = rows.reduce((sum, row) => sum + row.lanes * LANE + 8, 0) + AXIS;
  const x = (time) => gutter + ((Math.max(time, from) - from) / view.seconds) * (width - gutter);
  for (const [name, value] of [["width", width], ["height", height], ["viewBox", `0 0 ${width} ${height}`]]) set(svg, name, value);
  const drawn = [axis(from, to, x, height, width), ...view.began.filter((at) => at > from).map((at) => began(at, x, height))];
  let y = 4;
  let left = MOST;
  for (const row of rows) {
    const high = row.lanes * LANE;
    const label = s("text", { x: 0, y: y + Math.min(high, LANE) / 2 + 4, class: "label" }, cut(row.name, gutter - 10));
    drawn.push(s("line", { x1: 0, x2: width, y1: y + high + 4, y2: y + high + 4, class: "rule" }), tip(label, () => [row.whole ?? row.name]));
    for (const { span, lane } of row.spans.slice(-left)) {
      const shape = piece(span, x, y + lane * LANE, to);
      if (shape) drawn.push(...shape);
      left -= 1;
    }
    y += high + 8;
  }
  hide();
  svg.replaceChildren(...drawn);
}

function byDevice(spans, to) {
  const several = severalNodes();
  const found = new Map();
  for (const node of store.memory.nodes) {
    for (const page of node.devices) found.set(`${node.name} ${page.index}`, { name: device(node.name, page.index, several), spans: [] });
  }
  for (const span of spans) {
    if (!["awake", "changing"].includes(kindOf(span.phase))) continue;
    for (const index of span.devices) {
      const key = `${span.node} ${index}`;
      if (!found.has(key)) found.set(key, { name: device(span.node, index, several), spans: [] });
      found.get(key).spans.push(span);
    }
  }
  return [...found.values()].map((row) => ({ name: row.name, ...lanes(row.spans, to) }));
}

function byModel(spans) {
  const found = new Map();
  for (const span of spans) {
    if (span.phase === "Stopped") continue;
    if (!found.has(span.model)) found.set(span.model, []);
    found.get(span.model).push({ span, lane: 0 });
  }
  return [...found].sort(([a], [b]) => a.localeCompare(b)).map(([name, each]) => ({ name: parted(name)[1], whole: name, lanes: 1, spans: each }));
}

function piece(span, x, top, to) {
  const left = x(span.from_s);
  const right = x(span.to_s ?? to);
  const kind = kindOf(span.phase);
  const wide = right - left;
  if (wide < 0.4 && kind !== "awake") return null;
  const low = kind === "asleep";
  const shape = s("rect", {
    x: left.toFixed(1), y: top + (low ? 7 : 2), width: Math.max(1, wide - 0.6).toFixed(1), height: low ? 5 : LANE - 4,
    rx: Math.min(3, wide / 2), class: `span ${kind}`,
  });
  shape.style.setProperty("--hue", String(hue(span.model)));
  shape.vllamaModel = span.model;
  shape.addEventListener("click", () => open(span.model));
  tip(shape, () => said(span, to));
  const found = [shape];
  const name = kind === "awake" && view.by === "device" ? cut(parted(span.model)[1], wide - 10) : "";
  if (name) found.push(s("text", { x: (left + 5).toFixed(1), y: top + LANE / 2 + 4, class: "inside" }, name));
  const end = gone(span, view.spans);
  if (end && wide >= 3 && right < x(to)) {
    const mark = s("circle", { cx: right.toFixed(1), cy: top + LANE / 2, r: 3.5, class: "swap" });
    tip(mark, () => [`${span.model} left`, ["At", clock(end.from_s * 1000)], ["Because", end.reason], end.message]);
    found.push(mark);
  }
  return found;
}

function said(span, to) {
  return [
    span.model, ["Phase", span.phase], ["From", clock(span.from_s * 1000)], ["Until", span.to_s === null ? "now" : clock(span.to_s * 1000)],
    ["For", seconds((span.to_s ?? to) - span.from_s)], ["Because", span.reason], span.message,
  ];
}

function axis(from, to, x, height, width) {
  const step = STEPS_S.find((each) => ((width - x(from)) * each) / view.seconds >= 64) ?? STEPS_S.at(-1);
  const zone = new Date(from * 1000).getTimezoneOffset() * 60;
  const ticks = [];
  for (let at = Math.ceil((from - zone) / step) * step + zone; at < to; at += step) {
    ticks.push(s("line", { x1: x(at), x2: x(at), y1: 0, y2: height - AXIS + 4, class: "tick" }));
    if (x(at) < width - 18) ticks.push(s("text", { x: x(at), y: height - 5, class: "time", "text-anchor": "middle" }, hhmm(at * 1000)));
  }
  return s("g", { "aria-hidden": "true" }, ...ticks);
}

function began(at, x, height) {
  const line = s("line", { x1: x(at), x2: x(at), y1: 0, y2: height - AXIS + 4, class: "began" });
  return tip(line, () => ["vllama began", ["At", clock(at * 1000)]]);
}

function open(name) {
  const model = store.models.get(name);
  if (model) openCard(model);
}

function cut(name, room) {
  const most = Math.floor(room / 6.4);
  if (name.length <= most) return name;
  return most < 3 ? "" : `${name.slice(0, most - 1)}…`;
}
