// What a stream sees now and what happens in its zones, as it comes.

import { streamPath } from "./client.js";
import { make, setText } from "./dom.js";
import { clock, countsInWords, shortId } from "./words.js";

const KEPT = 100;
/** The line of what is seen changes no more often, so that it can be read. */
const SEEN_MS = 500;
const AGAIN_MS = 3000;

const WHAT = {
  enter: (event) => `entered ${event.zone}`,
  leave: (event) => `left ${event.zone} after ${Math.round(event.seconds ?? 0)} s`,
  dwell: (event) => `has stayed in ${event.zone} for ${Math.round(event.seconds ?? 0)} s`,
  cross: (event) => `crossed ${event.zone} ${event.direction === "left_to_right" ? "to the right" : "to the left"}`,
};

function eventInWords(event) {
  const who = `${event.label}${event.tracker_id === null ? "" : ` #${shortId(event.tracker_id)}`}`;
  return `${who} ${WHAT[event.event]?.(event) ?? event.event}`;
}

/**
 * Follows a stream's events over one connection while it is online and the page is not hidden. `found` gets the JSON of
 * each inferred picture.
 */
export class Events {
  constructor(id, found) {
    this.found = found;
    this.path = `${streamPath(id)}/detections`;
    this.wanted = false;
    this.source = null;
    this.seenAt = 0;
    this.seen = make("p", { class: "seen" }, "–");
    this.list = make("ol", { class: "plain" });
    const log = { class: "log", role: "log", "aria-live": "off", "aria-label": "Events", tabindex: "0" };
    this.none = make("p", { class: "soft" });
    this.element = make("div", {}, make("p", { class: "soft" }, "Sees now"), this.seen, this.none, make("div", log, this.list));
    this.shown = () => this.follow();
    document.addEventListener("visibilitychange", this.shown);
  }

  /** `wanted`: whether there is anything to follow; `zones`: how many there are. */
  show(wanted, zones) {
    this.wanted = wanted;
    this.none.hidden = this.list.children.length > 0;
    setText(this.none, zones ? "Nothing has happened in its zones since this page was opened." : "No zones: nothing is counted.");
    if (!wanted) setText(this.seen, "–");
    this.follow();
  }

  follow() {
    const open = this.wanted && !document.hidden;
    if (open === (this.source !== null)) return;
    if (!open) {
      this.source.close();
      this.source = null;
      return;
    }
    this.source = new EventSource(this.path);
    this.source.addEventListener("detections", (message) => this.saw(message.data));
    this.source.addEventListener("zone", (message) => this.happened(JSON.parse(message.data)));
    this.source.addEventListener("end", () => this.source?.close());
    this.source.addEventListener("error", () => {
      if (this.source?.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
      this.source = null;
      clearTimeout(this.again);
      this.again = setTimeout(this.shown, AGAIN_MS);
    });
  }

  saw(data) {
    this.found(data);
    if (performance.now() - this.seenAt < SEEN_MS) return;
    this.seenAt = performance.now();
    const counts = {};
    for (const { label } of JSON.parse(data).detections) counts[label] = (counts[label] ?? 0) + 1;
    setText(this.seen, countsInWords(counts) || "nothing");
  }

  happened(event) {
    const time = make("time", {}, clock(event.captured_at));
    this.list.prepend(make("li", {}, time, eventInWords(event)));
    while (this.list.children.length > KEPT) this.list.lastElementChild.remove();
    this.none.hidden = true;
  }

  close() {
    this.wanted = false;
    this.follow();
    clearTimeout(this.again);
    document.removeEventListener("visibilitychange", this.shown);
  }
}
