// Each device's memory as one bar: whose it is, to the byte. And the host's, for the copies that sleepers keep there.

import { byId, h, keyed, set, text } from "./dom.js";
import { bytes, counted, kindOf, kindOfNode } from "./format.js";
import { severalNodes } from "./store.js";
import { stepping, tip } from "./tip.js";

const LEGEND = [
  ["awake", "Awake"], ["changing", "Starting, waking or going down"], ["asleep", "Asleep, what stays"],
  ["foreign", "Other programs"], ["reserve", "Reserve"], ["free", "Free"],
];
const ORDER = ["awake", "changing", "failed", "asleep", "stopped", "foreign", "unknown", "free", "reserve"];
const WORDS = { foreign: "Other programs", reserve: "Reserve", free: "Free", unknown: "Not told by the driver" };
const AWAY = {
  lost: "It does not answer. Nothing on it takes requests, nothing is started there, and what it holds counts as held.",
  fenced: "It is back, and has not said yet that nothing is left there of what ran before. Until then nothing is started.",
};

export function install() {
  for (const [kind, label] of LEGEND) byId("legend").append(h("li", {}, h("i", { class: `swatch ${kind}` }), label));
}

export function show({ memory, filled }) {
  const several = severalNodes();
  const box = byId("device-cards");
  if (!memory.nodes.length) {
    if (filled) box.replaceChildren(h("p", { class: "empty" }, "No device was seen yet."));
    return;
  }
  const shape = several ? "machines" : "cards";
  if (box.className !== shape || box.firstElementChild?.matches(".empty")) box.replaceChildren();
  set(box, "class", shape);
  if (several) keyed(box, memory.nodes, (node) => node.name, makeMachine, updateMachine);
  else keyed(box, cardsOf(memory.nodes[0], several), (card) => card.id, make, update);
}

const cardsOf = (node, several) => [...node.devices.map((page) => deviceCard(node, page, several)), hostCard(node, several)];

/** A machine of several: how it is, and its devices below. */
function makeMachine() {
  return h(
    "section", { class: "machine" },
    h("div", { class: "machine-head" }, h("h3", {}), h("span", { class: "pill" }, h("i", {}), h("span", {})), h("span", { class: "muted small" })),
    h("p", { class: "machine-why", hidden: true }), h("div", { class: "cards" }),
  );
}

function updateMachine(box, node) {
  const state = node.state ?? "ready";
  const [head, why, cards] = box.children;
  const [name, pill, sum] = head.children;
  set(box, "data-state", state);
  set(box, "aria-label", `${node.name}, ${state}`);
  text(name, node.name);
  set(pill, "class", `pill ${kindOfNode(state)}`);
  text(pill.lastElementChild, `${state[0].toUpperCase()}${state.slice(1)}`);
  const total = node.devices.reduce((all, page) => all + page.total_bytes, 0);
  const free = node.devices.reduce((all, page) => all + Math.max(0, page.room_bytes ?? 0), 0);
  const room = state === "ready" ? `${bytes(free)} free of ` : "";
  text(sum, `${counted(node.devices.length, "device")} · ${room}${bytes(total)}`);
  why.hidden = state === "ready";
  text(why, [node.said && `${node.said[0].toUpperCase()}${node.said.slice(1).replace(/\.$/, "")}.`, AWAY[state]].filter(Boolean).join(" "));
  keyed(cards, cardsOf(node, true), (card) => card.id, make, update);
}

const isAway = (node) => (node.state ?? "ready") !== "ready";

/** What a bar and its lines show. `parts`: kind, who, size in bytes, and further rows for the tip. */
function deviceCard(node, page, several) {
  const parts = page.engines.map((entry) => ({
    key: `engine ${entry.engine_id}`, kind: kindOf(entry.phase), who: entry.model, size: entry.counted_bytes,
    rows: [
      ["Phase", entry.sleep_level ? `${entry.phase}, level ${entry.sleep_level}` : entry.phase],
      ["Counts for", bytes(entry.counted_bytes)],
      entry.measured_bytes !== null && ["Holds now", bytes(entry.measured_bytes)],
      ["When awake", bytes(entry.awake_bytes)],
    ],
  }));
  const told = page.room_bytes !== null;
  const ours = parts.reduce((sum, part) => sum + part.size, 0);
  if (told && page.foreign_bytes) {
    const rows = page.foreign.map((each) => [`${each.name} (${each.pid})`, bytes(each.memory_bytes)]);
    parts.push({ key: "foreign", kind: "foreign", who: WORDS.foreign, size: page.foreign_bytes, rows });
  }
  const rest = told ? Math.max(0, page.room_bytes) : Math.max(0, page.total_bytes - page.reserve_bytes - ours);
  const kind = told ? "free" : "unknown";
  const away = isAway(node);
  parts.push({ key: "rest", kind, who: away ? "Nobody's to take now" : WORDS[kind], size: rest, rows: [] });
  if (page.reserve_bytes) {
    const rows = ["Kept free by policy, for what vLLM takes besides."];
    parts.push({ key: "reserve", kind: "reserve", who: WORDS.reserve, size: page.reserve_bytes, rows });
  }
  return {
    id: `${node.name} ${page.index}`, name: `gpu${page.index}`, of: several ? node.name : "", what: page.name,
    total: page.total_bytes, free: page.room_bytes, freeWord: "free", away, parts: sorted(parts),
    note: told && page.room_bytes < 0 ? "More is given away than there is." : "",
  };
}

function hostCard(node, several) {
  const { host } = node;
  const parts = host.copies.map((copy) => ({
    key: `copy ${copy.engine_id}`, kind: "asleep", who: copy.model, size: copy.copy_bytes,
    rows: [
      ["Phase", copy.phase], ["Copy of its weights", bytes(copy.copy_bytes)],
      copy.measured_bytes !== null && ["All its processes", bytes(copy.measured_bytes)],
    ],
  }));
  const left = Math.max(0, host.left_bytes);
  const machine = host.available_bytes === null ? [] : [["The machine has available", bytes(host.available_bytes)]];
  parts.push({ key: "rest", kind: "free", who: "Left of the budget", size: left, rows: machine });
  return {
    id: `${node.name} host`, name: "host", of: several ? node.name : "", what: "memory for copies of sleepers",
    total: host.budget_bytes, free: host.left_bytes, freeWord: "left", away: isAway(node), parts: sorted(parts),
    note: node.sleep_frees_memory ? "" : "Sleeping frees nothing here, so there are no copies.",
  };
}

const sorted = (parts) => parts.sort((a, b) => ORDER.indexOf(a.kind) - ORDER.indexOf(b.kind) || b.size - a.size);

function make() {
  const bar = h("div", { class: "bar", tabindex: "0", role: "group" });
  stepping(bar, () => [...bar.children]);
  return h(
    "article", { class: "panel card" },
    h("div", { class: "card-head" }, h("h3", {}), h("span", { class: "muted what" }), h("span", { class: "num total" })),
    bar, h("ul", { class: "shares" }), h("p", { class: "note" }),
  );
}

function update(card, { name, of, what, total, free, freeWord, away, parts, note }) {
  text(card.querySelector("h3"), name);
  text(card.querySelector(".what"), what);
  const room = `${free === null ? "unknown" : bytes(Math.max(0, free))} ${freeWord} of `;
  text(card.querySelector(".total"), `${away ? "" : room}${bytes(total).replace(".0 ", " ")}`);
  text(card.querySelector(".note"), note);
  const bar = card.querySelector(".bar");
  const spoken = parts.map((part) => `${part.who} ${bytes(part.size)}`).join(", ");
  set(bar, "aria-label", `${of ? `${name} of ${of}` : name}: ${spoken}. Arrow keys step through it.`);
  const drawn = parts.filter((part) => part.size > 0);
  keyed(bar, drawn, (part) => part.key, () => h("div", {}, h("span", {})), (piece, part) => {
    set(piece, "class", `piece ${part.kind}`);
    piece.style.flexGrow = String(part.size / total);
    text(piece.firstElementChild, ["free", "reserve"].includes(part.kind) ? "" : shortOf(part));
    const share = `${((100 * part.size) / total).toFixed(1)}%`;
    tip(piece, () => [part.who, ["Memory", `${bytes(part.size)} (${share})`], ...part.rows]);
  });
  keyed(card.querySelector(".shares"), lines(parts), (line) => line.key, makeLine, updateLine);
}

const shortOf = (part) => (["foreign", "free", "reserve", "unknown"].includes(part.kind) ? part.who : part.who.slice(part.who.lastIndexOf("/") + 1));

/** Sleepers together, as they may be many and hold little each. */
function lines(parts) {
  const asleep = parts.filter((part) => part.kind === "asleep");
  const others = parts.filter((part) => part.kind !== "asleep" && !["free", "reserve"].includes(part.kind));
  if (asleep.length < 2) return parts.filter((part) => !["free", "reserve"].includes(part.kind));
  const size = asleep.reduce((sum, part) => sum + part.size, 0);
  const names = asleep.map((part) => [part.who, bytes(part.size)]);
  const together = {
    key: "asleep", kind: "asleep", who: counted(asleep.length, "sleeper"), size,
    rows: names.length > 14 ? [...names.slice(0, 14), `and ${names.length - 14} more`] : names,
  };
  return [...others.filter((part) => part.kind !== "foreign"), together, ...others.filter((part) => part.kind === "foreign")];
}

function makeLine() {
  return h("li", {}, h("i", {}), h("span", { class: "who" }), h("span", { class: "num" }));
}

function updateLine(line, part) {
  set(line.children[0], "class", `swatch ${part.kind}`);
  text(line.children[1], shortOf(part));
  text(line.children[2], bytes(part.size));
  tip(line, () => [part.who, ["Memory", bytes(part.size)], ...part.rows]);
}
