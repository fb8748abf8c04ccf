// Stretches of time laid out. Nothing here draws.

/** Each span in the first lane that is free; the spans of one model follow each other in theirs. */
export function lanes(spans, now) {
  const ends = []; // by lane: when it is free
  const own = new Map(); // model -> its last lane
  const placed = [...spans].sort((a, b) => a.from_s - b.from_s).map((span) => {
    let lane = own.get(span.model) ?? -1;
    if (lane < 0 || ends[lane] > span.from_s + 0.01) {
      lane = ends.findIndex((end) => end <= span.from_s + 0.01);
      if (lane < 0) lane = ends.length;
    }
    ends[lane] = span.to_s ?? now;
    own.set(span.model, lane);
    return { span, lane };
  });
  return { lanes: Math.max(1, ends.length), spans: placed };
}

const UP = new Set(["Ready", "Starting", "Waking"]);

let known = null;
let next = new Map(); // span -> the one of its model after it

/** After `span` its model was no longer awake there: the span that says why. Null: it stayed. */
export function gone(span, spans) {
  if (known !== spans) {
    known = spans;
    next = new Map();
    const last = new Map();
    for (const each of spans) {
      if (last.has(each.model)) next.set(last.get(each.model), each);
      last.set(each.model, each);
    }
  }
  const after = span.phase === "Ready" && span.to_s !== null ? next.get(span) : null;
  return after && !UP.has(after.phase) ? after : null; // one that comes up anew: another server, which saw it not go
}
