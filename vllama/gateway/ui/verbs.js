// What may be asked of a model, and how the button for it is called.

/** What can be asked of it now. Nothing of what only others run, and of a replica only through its model. */
export function verbsOf(model) {
  if (model.replica_of || (model.servers.length > 0 && model.reason === "OnServers")) return [];
  switch (model.phase) {
    case "Stopped":
    case "Failed":
    case "Lost":
      return model.phase === "Stopped" ? ["start"] : ["start", "stop"];
    case "Asleep":
      return ["start", "stop"];
    case "Ready":
    case "Draining":
      return ["sleep", "stop"];
    default:
      return ["stop"];
  }
}

export const wordOf = (verb, model) => (verb === "start" && model.phase === "Asleep" ? "Wake" : { start: "Start", sleep: "Sleep", stop: "Stop" }[verb]);
