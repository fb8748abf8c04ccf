// Who may look: the admin API decides, and where it wants a key, this asks for one.

import { byId, h, refill } from "./dom.js";
import { keep, key } from "./api.js";

export function install(again) {
  byId("forget").addEventListener("click", () => {
    keep("");
    again();
  });
}

/** `status` 401: a key is wanted. 403: this one, or coming from there, is not enough. */
export function refused(message, status, again) {
  const notice = byId("notice");
  const button = h("button", { type: "button", on: { click: () => askKey("", again) } }, "Use a key");
  refill(notice, h("p", {}, message), button);
  notice.hidden = false;
  if (status === 401 || key()) askKey(key() ? message : "", again);
}

export function welcome() {
  byId("notice").hidden = true;
  byId("forget").hidden = !key();
  if (byId("key").open) byId("key").close();
}

function askKey(problem, again) {
  const dialog = byId("key");
  if (dialog.open) return;
  const input = h("input", {
    id: "key-input", type: "password", autocomplete: "off", spellcheck: "false", required: true, "aria-describedby": "key-more",
    "aria-invalid": problem ? "true" : null,
  });
  const submit = (event) => {
    event.preventDefault();
    keep(input.value.trim());
    dialog.close();
    again();
  };
  refill(
    dialog,
    h("form", { method: "dialog", on: { submit } },
      h("h2", { id: "key-title" }, "Admin key"),
      problem ? h("p", { class: "verdict bad", role: "alert" }, problem) : null,
      h("label", { class: "field block" }, h("span", {}, "Key with the scope admin"), input),
      h("p", { id: "key-more", class: "muted small" },
        "Whoever runs this server makes one with ", h("code", {}, "vllama keys add NAME --scope admin"), ". It stays in this tab and is forgotten with it."),
      h("div", { class: "foot" },
        h("button", { type: "button", on: { click: () => dialog.close() } }, "Cancel"), h("button", { type: "submit", class: "primary" }, "Use it"))),
  );
  dialog.showModal();
  input.focus();
}
