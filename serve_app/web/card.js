// One stream's card. Text from the server goes into textContent only, never into markup.

import { streamPath } from "./client.js";

const STATES = {
  pending: ["Waiting", "Waiting for a place to run"],
  connecting: ["Connecting", "Connecting to the source"],
  online: ["Online", "Waiting for the first picture"],
  reconnecting: ["Reconnecting", "The source is away; trying again"],
  paused: ["Paused", "Paused"],
  failed: ["Failed", "Stopped after an error; change it or restart"],
  stopping: ["Stopping", "Stopping"],
};

const number = (value, digits = 0) => (typeof value === "number" ? value.toFixed(digits) : "–");

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export class Card {
  constructor(id, act) {
    this.id = id;
    this.visible = false;
    this.playing = null;
    this.element = document.getElementById("card").content.cloneNode(true).querySelector("li");
    this.part = (selector) => this.element.querySelector(selector);
    this.image = this.part("img");
    this.image.alt = `Live picture of ${id}`;
    this.image.addEventListener("load", () => this.showPicture(true));
    this.image.addEventListener("error", () => this.stop());
    setText(this.part(".name"), id);
    for (const button of this.element.querySelectorAll("button")) {
      button.setAttribute("aria-label", `${button.textContent} ${id}`);
      button.addEventListener("click", () => act(this, button));
    }
  }

  update({ spec, status }) {
    this.spec = spec;
    this.status = status;
    this.element.dataset.state = status.state;
    const [badge, words] = STATES[status.state] ?? [status.state, status.state];
    setText(this.part(".badge"), badge);
    setText(this.part(".veil"), status.reason || words);
    setText(this.part(".address"), spec.source.url);
    this.part(".address").title = spec.source.url;
    this.numbers(status);
    const error = this.part(".error");
    error.hidden = !status.last_error || status.state === "online";
    if (!error.hidden) setText(error, `${status.last_error.message} (${since(status.last_error.at)})`);
    const pause = this.part('[data-do="pause"]');
    setText(pause, spec.paused ? "Resume" : "Pause");
    pause.setAttribute("aria-label", `${pause.textContent} ${this.id}`);
    if (status.state !== "online") this.seen(null);
  }

  numbers({ state, fps, latency_ms: latency, frames }) {
    const whole = latency.whole ?? {};
    const running = state === "online";
    const dropped = Object.values(frames.dropped).reduce((sum, count) => sum + count, 0);
    const share = frames.decoded ? ` (${number((100 * dropped) / frames.decoded, 1)} %)` : "";
    setText(this.part('[data-is="fps"]'), running ? `${number(fps.inferred, 1)} / ${number(fps.decoded, 1)}` : "–");
    setText(this.part('[data-is="latency"]'), running ? `${number(whole.p50)} / ${number(whole.p95)}` : "–");
    setText(this.part('[data-is="drops"]'), `${dropped}${share}`);
  }

  seen(event) {
    const counts = new Map();
    for (const { label } of event?.detections ?? []) counts.set(label, (counts.get(label) ?? 0) + 1);
    const words = [...counts].sort((a, b) => b[1] - a[1]).map(([label, count]) => `${count} × ${label}`);
    setText(this.part('[data-is="seen"]'), event ? words.join(", ") || "nothing" : "–");
  }

  showPicture(shown) {
    this.image.hidden = !shown;
    this.part(".veil").hidden = shown;
  }

  // `kind`: "live" for endless video, "still" for one picture a poll.
  play(kind) {
    if (kind === "live" && this.playing === "live") return;
    this.playing = kind;
    // An endless picture tells of its first part in no browser alike, so it is shown as soon as it is asked for.
    if (kind === "live") this.showPicture(true);
    const path = streamPath(this.id);
    this.image.src = kind === "live" ? `${path}/live.mjpeg?fps=10&t=${Date.now()}` : `${path}/snapshot.jpg?t=${Date.now()}`;
  }

  stop() {
    this.playing = null;
    this.image.removeAttribute("src");
    this.showPicture(false);
  }
}

function since(at) {
  const seconds = Math.max(0, Math.round(Date.now() / 1000 - at));
  if (seconds < 60) return `${seconds} s ago`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min ago` : `${Math.round(seconds / 3600)} h ago`;
}
