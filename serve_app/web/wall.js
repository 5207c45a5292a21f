// The wall: a tile for each stream, with its newest picture, state and numbers.

import { Poll, Problem, allStreams, picture, streamPath } from "./client.js";
import { announce, heading, keyed, make, say, setText } from "./dom.js";
import { Turns } from "./pictures.js";
import { may } from "./who.js";
import { UNKNOWN, number, stateName, sum, whyNoPicture, zoneInWords } from "./words.js";

const POLL_MS = 2000;
const PICTURE_TIMEOUT_MS = 8000;
/** More changes at once are only counted. */
const TOLD_AT_ONCE = 3;

class Tile {
  constructor({ spec: { id } }, turns, watcher) {
    this.id = id;
    this.turns = turns;
    this.watcher = watcher;
    this.visible = false;
    this.image = make("canvas", { role: "img", "aria-label": `Newest picture of ${id}`, hidden: true });
    this.veil = make("p", { class: "veil" });
    this.badge = make("span", { class: "badge" });
    this.numbers = make("p", { class: "soft" });
    this.zones = make("ul", { class: "plain counts" });
    const link = make("a", { href: `#/streams/${encodeURIComponent(id)}` }, id);
    this.view = make("div", { class: "view" }, this.image, this.veil, this.badge);
    const body = make("div", { class: "body" }, make("h2", { class: "name" }, link), this.numbers, this.zones);
    this.element = make("li", { class: "card tile", "data-id": id }, this.view, body);
    turns.add(this);
    watcher.observe(this.element);
  }

  get wanted() {
    return this.visible && this.status.state === "online";
  }

  update({ status }) {
    const before = this.status?.state;
    this.status = status;
    this.changed = before !== undefined && before !== status.state;
    this.element.dataset.state = status.state;
    setText(this.badge, stateName(status.state));
    setText(this.veil, whyNoPicture(status));
    if (status.state !== "online") this.uncover(false);
    setText(this.numbers, numbersOf(status));
    this.zones.replaceChildren(...status.zones.map((zone) => make("li", {}, zoneInWords(zone))));
  }

  /** The server gives no news: what was last known may be wrong by now. */
  forget() {
    this.element.dataset.state = "unknown";
    setText(this.badge, UNKNOWN);
  }

  uncover(shown) {
    this.image.hidden = !shown;
    this.veil.hidden = shown;
  }

  /** Puts the newest picture there in one go, so that nothing flickers. */
  async refresh(left) {
    const signal = AbortSignal.any([left, AbortSignal.timeout(PICTURE_TIMEOUT_MS)]);
    const width = Math.round((this.view.clientWidth || 320) * devicePixelRatio);
    const bitmap = await picture(`${streamPath(this.id)}/snapshot.jpg?t=${Date.now()}`, width, signal);
    if (!this.wanted) return;
    [this.image.width, this.image.height] = [bitmap.width, bitmap.height];
    this.image.getContext("bitmaprenderer").transferFromImageBitmap(bitmap);
    this.uncover(true);
  }

  stop() {
    this.turns.remove(this);
    this.watcher.unobserve(this.element);
  }
}

function numbersOf({ state, fps, latency_ms: latency, frames }) {
  if (state !== "online") return "";
  const share = frames.decoded ? (100 * sum(frames.dropped)) / frames.decoded : 0;
  return `${number(fps.inferred, 1)} fps · ${number(latency.whole?.p50)} ms · ${number(share, 1)} % dropped`;
}

function tell(tiles) {
  const changed = [...tiles].filter((tile) => tile.changed);
  if (changed.length > TOLD_AT_ONCE) announce(`${changed.length} streams changed their state`);
  else if (changed.length) announce(changed.map(({ id, status }) => `${id}: ${stateName(status.state)}`).join(", "));
}

function summary(views) {
  const states = new Map();
  for (const { status } of views) states.set(status.state, (states.get(status.state) ?? 0) + 1);
  return [...states].map(([state, count]) => `${count} ${stateName(state).toLowerCase()}`).join(", ");
}

export function showWall(place) {
  const tiles = new Map();
  const turns = new Turns();
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const tile = tiles.get(entry.target.dataset.id);
      if (tile) tile.visible = entry.isIntersecting;
    }
  }, { rootMargin: "100px" });
  const count = make("p", { class: "soft", id: "count" });
  const message = make("p", { class: "message", role: "status" });
  const list = make("ul", { class: "cards", id: "streams" });
  const first = ["No streams yet. ", make("a", { href: "#/add" }, "Add a camera's address"), "; ", make("code", {}, "testsrc://"), " gives a test picture."];
  const empty = make("p", { class: "panel empty", hidden: true }, ...(may("operator") ? first : ["No streams that you may see."]));
  place.append(
    make(
      "div", { class: "head" }, heading("Streams"), count,
      may("operator") ? make("a", { class: "button primary", href: "#/add" }, "Add a stream") : null,
    ),
    message, empty, list,
  );
  const poll = new Poll(async () => {
    try {
      const views = await allStreams();
      if (poll.stopped) return;
      keyed(list, tiles, views, (view) => view.spec.id, (view) => new Tile(view, turns, watcher));
      tell(tiles.values());
      setText(count, summary(views));
      empty.hidden = views.length > 0;
      say(message, "");
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      for (const tile of tiles.values()) tile.forget();
      say(message, error.message, true);
    }
  }, POLL_MS);

  function stop() {
    poll.stop();
    turns.stop();
    watcher.disconnect();
  }
  return { title: "Streams", stop };
}
