// The page: asks for the streams every two seconds and keeps one card for each.
// Text from the server goes into textContent only, never into markup.

import { Card, setText } from "./card.js";
import { Problem, call, csrfToken, streamPath } from "./client.js";

const POLL_MS = 2000;
const EVENT_WAIT_MS = 1500;
// Browsers open six connections to a server: more endless pictures would leave none for anything else.
const LIVE_AT_ONCE = 3;

const byId = (id) => document.getElementById(id);
const cards = new Map();

const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const card = cards.get(entry.target.dataset.id);
    if (card) card.visible = entry.isIntersecting;
  }
  choosePictures();
});

function choosePictures() {
  let live = 0;
  for (const card of cards.values()) {
    const wanted = card.visible && !document.hidden && card.status?.state === "online";
    if (!wanted) {
      if (card.playing) card.stop();
    } else if (live < LIVE_AT_ONCE) {
      live += 1;
      card.play("live");
    } else {
      card.play("still");
    }
  }
}

// ---- what the server says --------------------------------------------------------------------------------------------

async function allStreams() {
  const views = [];
  let cursor = null;
  do {
    const page = await call("GET", `v1/streams?limit=1000${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`);
    views.push(...page.items);
    cursor = page.next_cursor;
  } while (cursor);
  return views;
}

function showStreams(views) {
  const list = byId("streams");
  const present = new Set(views.map((view) => view.spec.id));
  for (const [id, card] of cards) {
    if (present.has(id)) continue;
    card.stop();
    watcher.unobserve(card.element);
    card.element.remove();
    cards.delete(id);
  }
  views.forEach((view, place) => {
    let card = cards.get(view.spec.id);
    if (!card) {
      card = new Card(view.spec.id, act);
      card.element.dataset.id = view.spec.id;
      cards.set(view.spec.id, card);
      list.insertBefore(card.element, list.children[place] ?? null);
      watcher.observe(card.element);
    }
    card.update(view);
  });
  byId("empty").hidden = views.length > 0;
  setText(byId("count"), views.length ? String(views.length) : "");
}

async function showSystem() {
  try {
    const [models, capacity] = await Promise.all([call("GET", "v1/models"), call("GET", "v1/capacity")]);
    setText(byId("engine"), models.items.map((model) => `${model.engine} on ${model.device}`).join(", "));
    setText(
      byId("capacity"),
      capacity.fits === null
        ? "not measured yet"
        : `${capacity.streams} online, room for ${capacity.free} more at ${capacity.fps} fps`,
    );
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    setText(byId("engine"), "not there");
    setText(byId("capacity"), "–");
  }
}

// Reads one event and hangs up: a stream of events for each card would take all connections.
async function newestEvent(id) {
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), EVENT_WAIT_MS);
  try {
    const response = await fetch(`${streamPath(id)}/detections`, { signal: abort.signal });
    if (!response.ok) return null;
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let text = ""; ; ) {
      const { done, value } = await reader.read();
      if (done) return null;
      text += value;
      const found = /event: detections\ndata: (.*)\n\n/.exec(text);
      if (found) return JSON.parse(found[1]);
    }
  } catch {
    return null;
  } finally {
    clearTimeout(timer);
    abort.abort();
  }
}

async function showDetections() {
  for (const card of [...cards.values()]) {
    if (document.hidden || !card.visible || card.status.state !== "online") continue;
    const event = await newestEvent(card.id);
    if (event) card.seen(event);
  }
}

async function refresh() {
  const notice = byId("notice");
  try {
    showStreams(await allStreams());
    notice.hidden = true;
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    setText(notice, error.message);
    notice.hidden = false;
  }
  choosePictures();
}

async function forever(task) {
  for (;;) {
    if (!document.hidden) await task().catch((error) => console.error(error));
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

// ---- what the user does ----------------------------------------------------------------------------------------------

async function confirmed(text) {
  const dialog = byId("confirm");
  setText(byId("confirm-text"), text);
  dialog.returnValue = "no";
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  return dialog.returnValue === "yes";
}

async function act(card, button) {
  const path = streamPath(card.id);
  const what = button.dataset.do;
  if (what === "delete" && !(await confirmed(`Delete the stream “${card.id}”? Its outputs end.`))) return;
  button.disabled = true;
  try {
    if (what === "pause") await call("PATCH", path, { paused: !card.spec.paused });
    if (what === "restart") await call("POST", `${path}/restart`);
    if (what === "delete") await call("DELETE", path);
    if (what === "delete") byId("streams").focus();
    await refresh();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    const place = card.part(".error");
    place.hidden = false;
    setText(place, error.message);
  } finally {
    button.disabled = false;
  }
}

function say(text, bad = false) {
  const message = byId("add-message");
  setText(message, text);
  message.classList.toggle("bad", bad);
}

byId("add").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  const url = byId("add-url").value.trim();
  const id = byId("add-id").value.trim();
  if (!url) {
    say("Give the address of a camera or file.", true);
    byId("add-url").focus();
    return;
  }
  const button = form.querySelector("button");
  button.disabled = true;
  try {
    say("Looking at the source…");
    const found = await call("POST", "v1/probe", { url });
    const view = await call("POST", "v1/streams", { ...(id ? { id } : {}), source: { url } });
    say(`Added ${view.spec.id}: ${found.codec}, ${found.width} × ${found.height}.`);
    form.reset();
    await refresh();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    say(error.message, true);
  } finally {
    button.disabled = false;
  }
});

byId("logout").hidden = !csrfToken();
byId("logout").addEventListener("click", async () => {
  await call("POST", "v1/logout").catch(() => null);
  location.reload();
});

document.addEventListener("visibilitychange", choosePictures);
forever(refresh);
forever(showDetections);
forever(showSystem);
