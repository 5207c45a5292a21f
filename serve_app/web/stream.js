// One stream: its video, what it counts and sees, how fast it is, what it went through, and what can be done with it.

import { Poll, Problem, call, streamPath } from "./client.js";
import { Clips } from "./clips.js";
import { Drops, Facts, Past, Zones, factsOf } from "./details.js";
import { confirmed } from "./dialog.js";
import { announce, heading, make, panel, say, setText } from "./dom.js";
import { Events } from "./events.js";
import { LatencyPlot } from "./plot.js";
import { Video } from "./video.js";
import { may, needs } from "./who.js";
import { UNKNOWN, stateName, whyNoPicture } from "./words.js";

const POLL_MS = 1000;

export function showStream(place, id) {
  const view = new View(id);
  place.append(...view.parts);
  return { title: id, stop: () => view.stop() };
}

class View {
  constructor(id) {
    this.id = id;
    this.path = streamPath(id);
    this.video = new Video(id);
    this.events = new Events(id, (data) => this.video.overlay.take(data));
    this.clips = new Clips(id);
    this.plot = new LatencyPlot();
    this.zones = new Zones();
    this.drops = new Drops();
    this.past = new Past();
    this.facts = new Facts();
    this.badge = make("span", { class: "badge inline" });
    this.message = make("p", { class: "message", role: "status" });
    this.reason = make("p", { class: "message bad", role: "status" });
    this.parts = [this.head(), this.message, this.reason, this.body()];
    this.poll = new Poll(() => this.refresh(), POLL_MS);
  }

  head() {
    const here = `#/streams/${encodeURIComponent(this.id)}`;
    const button = (what, text, more = {}) =>
      make("button", { type: "button", "data-do": what, click: (event) => this.act(what, event.target), ...more }, text);
    this.pause = button("pause", "Pause");
    const actions = [
      make("a", { class: "button primary", href: `${here}/zones` }, "Zones"),
      make("a", { class: "button", href: `${here}/edit` }, "Edit"),
      this.pause, button("restart", "Restart"), button("delete", "Delete", { class: "danger" }),
    ];
    return this.top = make(
      "div", { class: "head" }, heading(this.id), this.badge,
      make("div", { class: "actions" }, ...(may("operator") ? actions : [needs("Changing it", "operator")])),
    );
  }

  body() {
    const draw = make("a", { href: `#/streams/${encodeURIComponent(this.id)}/zones` }, "draw a line or an area");
    this.none = make("p", { class: "soft" }, "Nothing is counted yet", ...(may("operator") ? [": ", draw, "."] : ["."]));
    this.recorded = panel("Clips", this.clips.element);
    this.recorded.hidden = true;
    return make(
      "div", { class: "columns" },
      make(
        "div", { class: "column wide" }, this.video.element, this.video.overlay.control, panel("Counts", this.none, this.zones.element),
        panel("Latency by stage", this.plot.element),
      ),
      make(
        "div", { class: "column" }, panel("Events", this.events.element), this.recorded,
        panel("History", this.past.element), panel("Dropped frames", this.drops.element), panel("Facts", this.facts.element),
      ),
    );
  }

  async refresh() {
    try {
      const view = await call("GET", this.path);
      if (this.poll.stopped) return;
      this.show(view);
      if (this.lost) say(this.message, "");
      this.lost = false;
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      this.lost = true;
      this.top.dataset.state = "unknown";
      setText(this.badge, UNKNOWN);
      say(this.message, error.message, true);
      if (error.code !== "stream_not_found") return;
      setText(this.badge, ""); // it has no state any more
      this.video.show(false);
      this.close();
    }
  }

  show(view) {
    const { spec, status } = view;
    const now = Date.now() / 1000;
    const online = status.state === "online";
    if (this.state !== undefined && this.state !== status.state) announce(`${this.id}: ${stateName(status.state)}`);
    this.state = status.state;
    this.paused = spec.paused;
    this.top.dataset.state = status.state;
    setText(this.badge, stateName(status.state));
    setText(this.pause, spec.paused ? "Resume" : "Pause");
    say(this.reason, (online && status.reason) || "", true); // elsewhere it stands in place of the video
    this.video.know(view);
    this.video.show(online, whyNoPicture(status));
    this.events.show(online, spec.zones.length);
    this.recorded.hidden = spec.record === null;
    this.clips.follow(spec.record !== null);
    this.none.hidden = spec.zones.length > 0;
    this.zones.show(status.zones, spec.zones);
    this.plot.add(now, online ? status.latency_ms : null);
    this.drops.show(now, status);
    this.facts.show({ ...factsOf(view), Video: this.video.way });
    this.remember(status);
  }

  /** Asks for the history where something happened since the last time. */
  async remember({ state, since, epoch, last_error: error, outputs }) {
    const sign = JSON.stringify([state, since, epoch, error?.at, outputs.map((output) => output.last_error?.at)]);
    if (sign === this.sign) return;
    this.sign = sign;
    try {
      this.past.show((await call("GET", `${this.path}/history`)).items);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      this.sign = null; // again with the next status
    }
  }

  async act(what, button) {
    if (what === "delete" && !(await confirmed(`Delete the stream “${this.id}”? Its outputs end.`, "Keep it", "Delete"))) {
      return;
    }
    const focused = document.activeElement === button; // a disabled one loses it
    button.disabled = true;
    try {
      if (what === "pause") await call("PATCH", this.path, { paused: !this.paused });
      if (what === "restart") await call("POST", `${this.path}/restart`);
      if (what === "delete") {
        await call("DELETE", this.path);
        location.hash = "#/";
        return;
      }
      say(this.message, "");
      this.poll.soon();
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      say(this.message, error.message, true);
    } finally {
      button.disabled = false;
      if (focused && document.activeElement === document.body) button.focus();
    }
  }

  close() {
    this.video.close();
    this.events.close();
    this.clips.close();
  }

  stop() {
    this.poll.stop();
    this.close();
  }
}
