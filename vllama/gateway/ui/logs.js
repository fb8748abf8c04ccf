// What a model's engine writes, as it writes it.

import { byId, h, keyed, text } from "./dom.js";
import { ask, modelPath, pieces } from "./api.js";

const TAIL = 300;
const MOST_LINES = 2000;
const CLOSE_PX = 30;
const AGAIN_MS = 2000;

let stop = null;

export function install() {
  byId("log-model").addEventListener("change", begin);
  byId("log-follow").addEventListener("change", begin);
  byId("log-text").append(empty("Choose a model to see what its engine writes."));
}

export function show({ models }) {
  const own = [...models.values()].filter((model) => model.declared || model.phase !== "Stopped" || model.reason !== "NotWanted");
  const names = own.map((model) => model.model).sort((a, b) => a.localeCompare(b));
  const update = (option, name) => {
    option.value = name;
    text(option, name || "Choose a model");
  };
  const select = byId("log-model");
  const chosen = select.value;
  if (chosen && !names.includes(chosen)) names.push(chosen);
  keyed(select, ["", ...names], (name) => name, () => h("option", {}), update);
  select.value = chosen;
}

export function showLog(model) {
  const select = byId("log-model");
  if (![...select.options].some((option) => option.value === model)) select.append(h("option", { value: model }, model));
  select.value = model;
  byId("logs").scrollIntoView({ block: "nearest" });
  byId("log-text").focus({ preventScroll: true });
  begin();
}

/** The connection was lost and is back: whoever followed goes on. */
export function again() {
  if (byId("log-model").value) begin();
}

async function begin() {
  stop?.abort();
  const box = byId("log-text");
  const name = byId("log-model").value;
  box.replaceChildren();
  if (!name) {
    box.append(empty("Choose a model to see what its engine writes."));
    return;
  }
  const mine = (stop = new AbortController());
  const follow = byId("log-follow").checked;
  const [model, replica] = told(name);
  const query = new URLSearchParams({ tail: String(TAIL), follow: String(follow), replica });
  try {
    const answer = await ask(modelPath(model, `/logs?${query}`), { signal: mine.signal });
    const waiting = empty("Nothing was written yet.");
    box.append(waiting);
    for await (const lines of pieces(answer, "\n")) {
      if (mine.signal.aborted) return;
      if (lines.length) waiting.remove();
      add(box, lines);
    }
  } catch (error) {
    if (mine.signal.aborted) return;
    box.append(empty(error.message));
    if (follow && !error.status) setTimeout(() => mine === stop && !mine.signal.aborted && begin(), AGAIN_MS);
  }
}

/** `org/model#2` is the second replica of `org/model`. */
function told(name) {
  const found = /^(.+)#([0-9]+)$/.exec(name);
  return found ? [found[1], found[2]] : [name, "1"];
}

function add(box, lines) {
  const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < CLOSE_PX;
  box.append(...lines.slice(-MOST_LINES).map((line) => h("div", { class: levelOf(line) }, line || " ")));
  while (box.childElementCount > MOST_LINES) box.firstElementChild.remove();
  if (atEnd) box.scrollTop = box.scrollHeight;
}

function levelOf(line) {
  const found = /\b(ERROR|WARNING|Traceback)\b/.exec(line.slice(0, 80));
  return found ? (found[1] === "WARNING" ? "line warn" : "line bad") : "line";
}

const empty = (message) => h("p", { class: "empty" }, message);
