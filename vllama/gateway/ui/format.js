// Numbers and words for people.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

/** Null: unknown. */
export function bytes(size) {
  if (size === null || size === undefined) return "unknown";
  let value = Math.abs(size);
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || value >= 100 ? 0 : 1;
  return `${size < 0 ? "-" : ""}${value.toFixed(digits)} ${UNITS[unit]}`;
}

export function seconds(value) {
  if (value < 10) return `${Math.max(0, value).toFixed(value < 1 && value > 0 ? 1 : 0)} s`;
  if (value < 90) return `${Math.round(value)} s`;
  if (value < 5400) return `${Math.round(value / 60)} min`;
  if (value < 129600) return `${Math.round(value / 3600)} h`;
  return `${Math.round(value / 86400)} d`;
}

/** A span of the planner: `~` where it was never measured here. */
export function span({ seconds: value, assumed, unknown }) {
  if (unknown) return value > 0 ? `at least ${assumed ? "~" : ""}${seconds(value)}` : "unknown";
  return `${assumed ? "~" : ""}${seconds(value)}`;
}

/** `time`: ISO 8601, or null for never. */
export function ago(time, now) {
  if (!time) return "never";
  const passed = (now - Date.parse(time)) / 1000;
  return passed < 2 ? "now" : `${seconds(passed)} ago`;
}

export const clock = (time) => new Date(time).toLocaleTimeString([], { hour12: false });

export const hhmm = (time) =>
  new Date(time).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });

export const device = (node, index, several) => `${several ? `${node}:` : ""}gpu${index}`;

/** Of a model or an engine: `gpu0 gpu1`, with their machine where there are several, and all of those that it spans. */
export function places(of, several) {
  const each = [of, ...(of.further ?? [])].filter((place) => place.devices.length);
  return each.map((place) => `${several && place.node ? `${place.node}: ` : ""}${devices(place.devices)}`).join(" + ");
}

export const devices = (indices) => (indices.length ? indices.map((index) => `gpu${index}`).join(" ") : "");

export function counted(count, word) {
  return `${count} ${word}${count === 1 ? "" : "s"}`;
}

/** `org/` and the rest, which says more. */
export function parted(model) {
  const cut = model.lastIndexOf("/") + 1;
  return [model.slice(0, cut), model.slice(cut)];
}

/** The colours of what a machine is. */
export const kindOfNode = (state) => ({ ready: "awake", fenced: "changing" })[state] ?? "failed";

/** Where one word of a model's phase belongs: the colours and the chips. */
export function kindOf(phase) {
  switch (phase) {
    case "Ready":
      return "awake";
    case "Starting":
    case "Waking":
    case "Draining":
    case "Stopping":
      return "changing";
    case "Asleep":
      return "asleep";
    case "Failed":
    case "Lost":
    case "Unknown":
      return "failed";
    default:
      return "stopped";
  }
}

/** A colour of its own for each model, the same everywhere and every time. */
export function hue(model) {
  let hash = 2166136261;
  for (let i = 0; i < model.length; i += 1) hash = Math.imul(hash ^ model.charCodeAt(i), 16777619);
  return (((hash >>> 0) * 137) % 360 + 360) % 360;
}
