// What there is to say about a thing, beside it: on hover, and for the keyboard while a row of things has the focus.

import { byId, h, set } from "./dom.js";

const says = new WeakMap(); // element -> function that returns [title, [label, value], ...]
let shown = null;

export function tip(element, content) {
  says.set(element, content);
  return element;
}

function show(element, x, y) {
  const box = byId("tip");
  const [title, ...rows] = says.get(element)();
  box.replaceChildren(
    h("strong", {}, title),
    ...rows.filter(Boolean).map((row) =>
      Array.isArray(row) ? h("div", { class: "row" }, h("span", {}, row[0]), h("b", {}, String(row[1]))) : h("p", {}, row),
    ),
  );
  box.hidden = false;
  shown = element;
  const { width, height } = box.getBoundingClientRect();
  box.style.left = `${Math.max(8, Math.min(x - width / 2, innerWidth - width - 8))}px`;
  box.style.top = `${y - height - 12 > 8 ? y - height - 12 : Math.min(y + 18, innerHeight - height - 8)}px`;
}

export function hide() {
  byId("tip").hidden = true;
  shown = null;
}

function spoken(target) {
  for (let element = target; element instanceof Element; element = element.parentElement) {
    if (says.has(element)) return element;
  }
  return null;
}

export function install() {
  addEventListener("pointermove", (event) => {
    if (event.pointerType === "touch") return;
    const element = spoken(event.target);
    if (element) show(element, event.clientX, event.clientY);
    else if (shown) hide();
  });
  addEventListener("pointerdown", (event) => {
    const element = event.pointerType === "touch" ? spoken(event.target) : null;
    if (element) show(element, event.clientX, event.clientY);
    else hide();
  });
  addEventListener("scroll", hide, { passive: true, capture: true });
  document.documentElement.addEventListener("pointerleave", hide);
}

/** Arrow keys step through the things in `container`, which itself is what Tab comes to. `things()`: those with a tip. */
export function stepping(container, things) {
  let at = -1;
  const mark = (next) => {
    const all = things();
    for (const thing of all) set(thing, "data-at", null);
    at = next;
    if (at < 0 || !all.length) {
      hide();
      return;
    }
    at = Math.min(at, all.length - 1);
    set(all[at], "data-at", "");
    const box = all[at].getBoundingClientRect();
    show(all[at], box.left + box.width / 2, box.top);
    byId("tip").setAttribute("aria-live", "polite");
  };
  container.addEventListener("keydown", (event) => {
    const count = things().length;
    const next = { ArrowRight: at + 1, ArrowLeft: Math.max(0, at - 1), Home: 0, End: count - 1 }[event.key];
    if (next !== undefined) {
      event.preventDefault();
      mark(Math.min(next, count - 1));
    } else if (event.key === "Escape" && at >= 0) {
      mark(-1);
    }
  });
  container.addEventListener("blur", () => mark(-1));
}
