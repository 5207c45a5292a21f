// The parts of a stream's view that show its status: numbers, zones, drops, history.

import { make, setText, table } from "./dom.js";
import { DROPS, addressedInWords, clock, countsInWords, nodeName, number, sourceInWords, stateName, sum } from "./words.js";

const MINUTE_S = 60;

/** A list of names and values that keeps its elements. */
export class Facts {
  constructor() {
    this.values = new Map();
    this.element = make("dl", { class: "list" });
  }

  show(facts) {
    for (const [name, text] of Object.entries(facts)) {
      if (!this.values.has(name)) {
        const value = make("dd");
        this.values.set(name, value);
        this.element.append(make("div", {}, make("dt", {}, name), value));
      }
      setText(this.values.get(name), text);
    }
  }
}

/** What there is to tell of a stream beside its video. */
export function factsOf({ spec, status }) {
  const { source, fps, outputs, sinks, latency_ms: latency } = status;
  const running = status.state === "online";
  const each = (items) => items.map(addressedInWords).join(", ") || "none";
  return {
    Address: spec.source.url,
    Source: source ? sourceInWords(source) : "–",
    "Frames a second": running
      ? `${number(fps.decoded, 1)} decoded, ${number(fps.inferred, 1)} inferred, ${number(fps.published, 1)} shown`
      : "–",
    Latency: running ? `${number(latency.whole?.p50)} ms (p50), ${number(latency.whole?.p95)} ms (p95)` : "–",
    Model: spec.detect.model,
    Followed: spec.track ? `${status.tracks} now` : "objects are not followed",
    Node: nodeName(status.node),
    Outputs: each(outputs),
    Sinks: each(sinks),
  };
}

export class Zones {
  constructor() {
    this.element = make("ul", { class: "plain zones", id: "counts" });
  }

  /** `counted`: what the stream says of its zones; nothing, until its first picture. `drawn`: the zones of its spec. */
  show(counted, drawn) {
    const text = JSON.stringify([counted, drawn.map(({ name }) => name)]);
    if (text === this.shown) return;
    this.shown = text;
    const waiting = drawn.map(({ name }) => make("li", { class: "soft" }, `${name}: waiting for the first picture`));
    this.element.replaceChildren(...(counted.length ? counted.map(zoneOf) : waiting));
  }
}

function zoneOf(zone) {
  const counts = zone.kind === "line"
    ? [["To the right", zone.crossed.left_to_right], ["To the left", zone.crossed.right_to_left]]
    : [["Inside", zone.inside], ["Entered", zone.entered], ["Left", zone.left]];
  const parts = counts.map(([what, labels]) => {
    return make(
      "div", {}, make("dt", {}, what), make("dd", { class: "figure" }, String(sum(labels))),
      make("dd", { class: "soft" }, countsInWords(labels)),
    );
  });
  return make("li", { "data-zone": zone.name }, make("h3", {}, zone.name), make("dl", { class: "tally" }, ...parts));
}

/** Dropped frames by reason: in this life of the stream's process, and in the last minute. */
export class Drops {
  constructor() {
    this.body = make("tbody");
    this.sentence = make("p", { class: "soft" });
    this.samples = [];
    this.element = make(
      "div", {}, this.sentence, table("Dropped frames by reason", ["Reason", "Last minute", "In all"], this.body),
    );
  }

  show(now, { frames, epoch }) {
    const counts = { ...frames.dropped, video: frames.video_dropped };
    if (this.epoch !== epoch) this.samples = [];
    this.epoch = epoch;
    this.samples.push([now, counts]);
    while (this.samples.length > 2 && this.samples[1][0] <= now - MINUTE_S) this.samples.shift();
    const before = this.samples[0][1];
    setText(this.sentence, `${frames.inferred} of ${frames.decoded} decoded frames were inferred.`);
    const rows = Object.entries(counts).filter(([, count]) => count > 0);
    this.body.replaceChildren(
      ...rows.map(([reason, count]) => make(
        "tr", {}, make("th", { scope: "row" }, DROPS[reason] ?? reason),
        make("td", { class: "figure" }, String(count - before[reason])), make("td", { class: "figure" }, String(count)),
      )),
      ...(rows.length ? [] : [make("tr", {}, make("td", { colspan: "3" }, "No frame was dropped."))]),
    );
  }
}

/** States and errors, newest first. */
export class Past {
  constructor() {
    this.element = make("ol", { class: "plain log", "aria-label": "History", tabindex: "0" });
  }

  show(entries) {
    if (!entries.length) return this.element.replaceChildren(make("li", { class: "soft" }, "Nothing yet."));
    this.element.replaceChildren(...entries.map(({ at, last_at: last, times, state, error, output }) => {
      const where = output ? `output ${output}: ` : "";
      const again = times > 1 ? ` (${times} times, last at ${clock(last)})` : "";
      const what = error ? `${where}${error.message}${again}` : "";
      return make(
        "li", { "data-state": state }, make("time", {}, clock(at)),
        make("span", { class: "dot" }, stateName(state)), what ? make("span", { class: "what" }, what) : null,
      );
    }));
  }
}
