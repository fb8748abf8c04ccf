// The only way in which this page makes elements. Text is text: model names and log lines may say anything.

const SVG = "http://www.w3.org/2000/svg";

/** `attributes`: plain attributes; `on`: listeners by event; null and false leave one out. Children: nodes or text. */
export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function s(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else {
      set(element, name, value);
    }
  }
  element.append(...present(children));
  return element;
}

/** In place of whatever was in it. */
export function refill(element, ...children) {
  element.replaceChildren(...present(children));
}

const present = (children) => children.flat().filter((child) => child !== null && child !== undefined && child !== false);

/** An attribute, written only where it changes. */
export function set(element, name, value) {
  if (value === null || value === undefined || value === false) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
  } else {
    const text = value === true ? "" : String(value);
    if (element.getAttribute(name) !== text) element.setAttribute(name, text);
  }
}

export function text(element, value) {
  const said = String(value);
  if (element.textContent !== said) element.textContent = said;
  return element;
}

export const byId = (id) => document.getElementById(id);

/** Children of `parent`, one per item, in order: kept by key, so that focus and scrolling stay where they are. */
export function keyed(parent, items, keyOf, make, update) {
  const there = new Map();
  for (const child of parent.children) there.set(child.vllamaKey, child);
  let place = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    let child = there.get(key);
    if (child) {
      there.delete(key);
    } else {
      child = make(item);
      child.vllamaKey = key;
    }
    update(child, item);
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
  }
  for (const child of there.values()) child.remove();
}

/** Buttons of which one is pressed. `options`: [value, label]; labels may change with `relabel`. */
export function choice(group, options, chosen, onChoose) {
  const buttons = new Map();
  const press = (value) => {
    for (const [each, button] of buttons) set(button, "aria-pressed", each === value ? "true" : "false");
  };
  for (const [value, label] of options) {
    const click = () => {
      press(value);
      onChoose(value);
    };
    const button = h("button", { type: "button", class: "chip", on: { click } }, label);
    buttons.set(value, button);
    group.append(button);
  }
  press(chosen);
  return { press, relabel: (value, label) => text(buttons.get(value), label), button: (value) => buttons.get(value) };
}

export function toast(message, { bad = false } = {}) {
  const line = h("div", { class: bad ? "toast bad" : "toast" }, message);
  byId("toasts").append(line);
  setTimeout(() => line.remove(), bad ? 10000 : 4000);
}
