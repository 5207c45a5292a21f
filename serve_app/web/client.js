// Calls to the API; what goes wrong becomes a Problem whose message is for people.

/** `code` is the API's, or "unreachable"; `fields` has the messages by field. */
export class Problem extends Error {
  constructor(message, code, errors = []) {
    super(message);
    this.code = code;
    this.fields = new Map(errors.map(({ field, message: text }) => [field, text]));
  }
}

/** By code, instead of what the API tells programs to do next. */
const WORDS = { stream_not_found: "There is no such stream, or none any more." };

const STARTING = "The server is only starting. The page goes on trying.";

// Where the server asks who is there, changes need this beside the session's cookie, which no script can read.
export function csrfToken() {
  return /(?:^|; )raysight_csrf=([^;]*)/.exec(document.cookie)?.[1];
}

function headersOf(method, body, type = "application/json", generation = undefined) {
  const headers = body === undefined ? {} : { "Content-Type": type };
  const token = csrfToken();
  if (token && method !== "GET") headers["X-CSRF-Token"] = token;
  if (generation !== undefined) headers["If-Match"] = `"${generation}"`;
  return headers;
}

/** `type`: that of a body which is text; any other becomes JSON. `options`: those of fetch. */
async function ask(method, path, body, { type, generation, ...options } = {}) {
  let response;
  try {
    response = await fetch(path, {
      ...options,
      method,
      headers: headersOf(method, body, type, generation),
      body: body === undefined || type ? body : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server does not answer. The page goes on trying.", "unreachable");
  }
  if (response.ok) return response;
  if (response.status === 401) location.reload(); // the session has ended: the login page comes
  const answer = await response.json().catch(() => ({}));
  const notTheApi = !answer.code && (response.status === 404 || response.status >= 500);
  if (notTheApi) throw new Problem(STARTING, "unreachable"); // Serve's own, which has no replica of it yet
  const detail = WORDS[answer.code] ?? answer.detail;
  throw new Problem(detail || `The server answered ${response.status}.`, answer.code, answer.errors);
}

/** The answer's JSON. `generation`: refuse a change of a stream that others have changed since. */
export async function call(method, path, body, options) {
  const response = await ask(method, path, body, options);
  return response.status === 204 ? null : response.json();
}

/** A picture, decoded and scaled beside the page's own work. */
export async function picture(path, width, signal) {
  const response = await ask("GET", path, undefined, { signal });
  return createImageBitmap(await response.blob(), { resizeWidth: width, resizeQuality: "medium" });
}

/** Begins to watch by WebRTC: the answer to an offer, and what to give `leave` in the end. */
export async function watch(path, offer) {
  // A media server would be asked without a key: the session is the API's, and the browser would ask people for one.
  const response = await ask("POST", path, offer, { type: "application/sdp", redirect: "error" });
  return { answer: await response.text(), session: response.headers.get("Location") };
}

/** Also as the page goes; where this does not reach the server, it finds out by itself, later. */
export const leave = (session) => ask("DELETE", session, undefined, { keepalive: true }).catch(() => null);

export const streamPath = (id) => `v1/streams/${encodeURIComponent(id)}`;

export async function allStreams() {
  const views = [];
  let cursor = null;
  do {
    const page = await call("GET", `v1/streams?limit=1000${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`);
    views.push(...page.items);
    cursor = page.next_cursor;
  } while (cursor);
  return views;
}

/** Runs `task` now and again `everyMs` after it has ended, not while the page is hidden. `soon` runs it at once. */
export class Poll {
  constructor(task, everyMs) {
    this.task = task;
    this.everyMs = everyMs;
    this.stopped = false;
    this.shown = () => document.hidden || this.soon();
    document.addEventListener("visibilitychange", this.shown);
    this.run();
  }

  async run() {
    while (!this.stopped) {
      if (!document.hidden) await this.task().catch((error) => console.error(error));
      await new Promise((resolve) => {
        this.soon = resolve;
        setTimeout(resolve, this.everyMs);
      });
    }
  }

  soon() {}

  stop() {
    this.stopped = true;
    document.removeEventListener("visibilitychange", this.shown);
  }
}
