// The server's state as it changes: /admin/watch, read with fetch, since EventSource can show no key.

import { Refusal, ask, pieces } from "./api.js";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 5000;
const SILENCE_MS = 40000; // the server says something every 15 s
const HIDDEN_MS = 30000;

export class Live extends EventTarget {
  #stop = null;
  #wake = null;
  #hiddenSince = null;

  /** Events: `state` (detail: all), `change` (detail: what changed), `link` (detail: state, message). For ever. */
  async run() {
    document.addEventListener("visibilitychange", () => this.#looked());
    let wait = FIRST_WAIT_MS;
    for (;;) {
      let refusal = null;
      try {
        await this.#read(() => {
          wait = FIRST_WAIT_MS;
        });
      } catch (error) {
        if (error instanceof Refusal) refusal = error;
      }
      if (refusal && (refusal.status === 401 || refusal.status === 403)) {
        this.#say("refused", refusal.message, refusal.status);
        await this.#pause(null);
      } else {
        this.#say("lost", refusal ? refusal.message : "");
        await this.#pause(document.hidden && this.#hiddenSince ? null : wait);
        wait = Math.min(LONGEST_WAIT_MS, wait * 1.6);
      }
    }
  }

  /** Try again now: there is a new key, or somebody looks. */
  again() {
    this.#wake?.();
  }

  restart() {
    this.#stop?.abort();
    this.again();
  }

  async #read(onData) {
    const stop = (this.#stop = new AbortController());
    let silence = setTimeout(() => stop.abort(), SILENCE_MS);
    try {
      const answer = await ask("admin/watch", { signal: stop.signal });
      for await (const events of pieces(answer, "\n\n")) {
        clearTimeout(silence);
        silence = setTimeout(() => stop.abort(), SILENCE_MS);
        for (const event of events) if (this.#take(event)) onData();
      }
    } finally {
      clearTimeout(silence);
      stop.abort();
    }
  }

  #take(event) {
    let name = "message";
    const data = [];
    for (const line of event.split("\n")) {
      if (line.startsWith("event: ")) name = line.slice(7);
      else if (line.startsWith("data: ")) data.push(line.slice(6));
    }
    if (!data.length) return false;
    if (name === "state") this.#say("live", "");
    this.dispatchEvent(new CustomEvent(name, { detail: JSON.parse(data.join("\n")) }));
    return true;
  }

  #say(state, message, status = 0) {
    this.dispatchEvent(new CustomEvent("link", { detail: { state, message, status } }));
  }

  #pause(milliseconds) {
    return new Promise((resolve) => {
      this.#wake = resolve;
      if (milliseconds !== null) setTimeout(resolve, milliseconds);
    });
  }

  /** A tab that nobody looks at lets go of the server after a while. */
  #looked() {
    if (!document.hidden) {
      this.#hiddenSince = null;
      this.again();
      return;
    }
    const since = (this.#hiddenSince = performance.now());
    setTimeout(() => {
      if (document.hidden && this.#hiddenSince === since) this.#stop?.abort();
    }, HIDDEN_MS);
  }
}
