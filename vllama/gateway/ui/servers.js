// Servers that others run, and how busy each is.

import { byId, h, keyed, set, text } from "./dom.js";
import { ago } from "./format.js";
import { tip } from "./tip.js";

const COLUMNS = [["url", "Server"], ["models", "Models"], ["running", "Running", true], ["waiting", "Queue", true],
  ["usage", "Load"], ["cache", "KV cache", true], ["status", "Status"]];

let body;

export function install() {
  body = h("tbody", { role: "rowgroup" });
  const heads = COLUMNS.map(([name, label, right]) => h("th", { role: "columnheader", scope: "col", class: `${right ? "num " : ""}c-${name}` }, label));
  byId("server-table").append(
    h("div", { class: "panel wide" }, h("table", { role: "table", "aria-labelledby": "servers-title" },
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, ...heads)), body)),
  );
}

export function show({ servers: { servers, summary } }) {
  byId("servers").hidden = byId("nav-servers").hidden = !servers.length;
  if (!servers.length) return;
  text(byId("servers-sum"), `${summary.healthy_servers} of ${summary.total_servers} well · ${summary.total_active_load} of ${summary.total_capacity} requests`);
  keyed(body, servers, (server) => server.url, make, update);
}

function make(server) {
  const cells = COLUMNS.map(([name, label, right]) => h("td", { role: "cell", class: `${right ? "num " : ""}c-${name}`, "data-label": label }));
  const row = h("tr", { role: "row" }, ...cells);
  row.cell = Object.fromEntries(COLUMNS.map(([name], index) => [name, cells[index]]));
  row.cell.usage.append(h("span", { class: "gauge" }, h("i", {})), h("span", { class: "num" }));
  row.cell.status.append(h("span", { class: "pill" }, h("i", {}), h("span", {})));
  tip(row, () => row.tip);
  text(row.cell.url, server.url);
  return row;
}

function update(row, server) {
  const { cell } = row;
  const said = server.detailed_metrics;
  const well = server.status === "healthy";
  text(cell.models, server.supported_models.join(", ") || "–");
  text(cell.running, said.num_requests_running ?? server.in_flight);
  text(cell.waiting, said.num_requests_waiting ?? "–");
  const [gauge, number] = cell.usage.children;
  const high = server.utilization_percent;
  gauge.firstElementChild.style.width = `${Math.min(100, high)}%`;
  set(gauge.firstElementChild, "class", high >= 90 ? "full" : high >= 70 ? "high" : "");
  text(number, `${server.current_load}/${server.max_capacity}`);
  text(cell.cache, said.kv_cache_usage_perc === null ? "–" : `${Math.round(100 * said.kv_cache_usage_perc)}%`);
  set(cell.status.firstElementChild, "class", `pill ${well ? "awake" : "failed"}`);
  text(cell.status.firstElementChild.lastElementChild, well ? "Well" : "Away");
  row.tip = [
    server.url, well ? null : server.health_status, ["Load", `${server.current_load} of ${server.max_capacity}`], ["Sent from here", server.in_flight],
    ["Told", ago(server.last_updated, Date.now())],
  ];
}
