// What is asked of the server, with the key where one was given. The key lives as long as the tab does.

const KEY = "vllama.key";
let memory = "";

export function key() {
  try {
    return sessionStorage.getItem(KEY) || memory;
  } catch {
    return memory;
  }
}

export function keep(value) {
  memory = value;
  try {
    if (value) sessionStorage.setItem(KEY, value);
    else sessionStorage.removeItem(KEY);
  } catch {
    // Storage may be forbidden: then it holds until the page is left.
  }
}

/** The server said no: `status` of HTTP, and its own sentence as the message. */
export class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Relative to /ui/, so that a proxy may have vllama below a path. Throws Refusal, or TypeError where nobody answers. */
export async function ask(path, { method = "GET", body = null, signal = null } = {}) {
  const headers = { accept: path === "admin/watch" ? "text/event-stream" : "*/*" };
  if (key()) headers.authorization = `Bearer ${key()}`;
  if (body !== null) headers["content-type"] = "application/json";
  const answer = await fetch(`../${path}`, {
    method, headers, signal, cache: "no-store", credentials: "omit", redirect: "error",
    body: body === null ? undefined : JSON.stringify(body),
  });
  if (!answer.ok) throw new Refusal(answer.status, await sentence(answer));
  return answer;
}

export const json = async (path, options) => (await ask(path, options)).json();

export const modelPath = (model, rest = "") => `admin/models/${encodeURIComponent(model)}${rest}`;

async function sentence(answer) {
  try {
    const said = await answer.json();
    return said.error.message || `The server answered ${answer.status}.`;
  } catch {
    return `The server answered ${answer.status}.`;
  }
}

/** Whole pieces of a stream of text, each without `end`. */
export async function* pieces(answer, end) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const parts = (rest + value).split(end);
      rest = parts.pop();
      if (parts.length) yield parts;
      else yield [];
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
