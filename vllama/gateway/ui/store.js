// What was told last, as one object; those who show it are called at most once per frame.

const EVENTS = 1000;

export const store = {
  about: null, conditions: [], memory: { nodes: [], astray: [] }, servers: { servers: [], summary: null },
  models: new Map(), events: [], filled: false,
};

const shows = [];
let due = false;

export function onChange(show) {
  shows.push(show);
}

export function changed() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    for (const show of shows) show(store);
  });
}

export function fill(state) {
  Object.assign(store, {
    about: state.about, conditions: state.conditions, memory: state.memory, servers: state.servers,
    events: state.events, models: new Map(state.models.map((model) => [model.model, model])), filled: true,
  });
  changed();
}

/** Returns whether a model went from one phase to another, came or went. */
export function amend(news) {
  let moved = Boolean(news.gone);
  for (const part of ["about", "conditions", "memory", "servers"]) if (part in news) store[part] = news[part];
  for (const name of news.gone || []) store.models.delete(name);
  for (const model of news.models || []) {
    moved ||= store.models.get(model.model)?.phase !== model.phase;
    store.models.set(model.model, model);
  }
  if (news.events) store.events = [...store.events, ...news.events].slice(-EVENTS);
  changed();
  return moved;
}

export const severalNodes = () => store.memory.nodes.length > 1;
