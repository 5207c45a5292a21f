// A live plot of latencies by stage: medians of the last two minutes, and the newest numbers in a table.

import { keyed, make, makeSvg, setText, table } from "./dom.js";
import { STAGES, number } from "./words.js";

const SECONDS = 120;
const WIDTH = 600;
const HEIGHT = 200;
/** The order of lines and rows; what is not among them comes last. */
const ORDER = Object.keys(STAGES);

/** A round number of milliseconds at or above `value`. */
function roundUp(value) {
  const unit = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return [1, 2, 3, 5, 8, 10].map((times) => times * unit).find((limit) => limit >= value);
}

class Row {
  constructor([stage]) {
    const place = ORDER.indexOf(stage) < 0 ? ORDER.length : ORDER.indexOf(stage);
    const swatch = makeSvg("svg", { class: "swatch", viewBox: "0 0 24 8", "aria-hidden": "true" });
    swatch.append(makeSvg("line", { class: `series s${place}`, x1: 0, x2: 24, y1: 4, y2: 4 }));
    this.line = makeSvg("polyline", { class: `series s${place}` });
    this.cells = ["p50", "p95", "p99"].map((name) => [name, make("td", { class: "figure" })]);
    const head = make("th", { scope: "row" }, swatch, STAGES[stage] ?? stage);
    this.element = make("tr", {}, head, ...this.cells.map(([, cell]) => cell));
  }

  update([, latency]) {
    for (const [name, cell] of this.cells) setText(cell, number(latency[name], 1));
  }

  stop() {
    this.line.remove();
  }
}

export class LatencyPlot {
  constructor() {
    this.samples = [];
    this.rows = new Map();
    this.lines = makeSvg("g");
    const grid = [0, 0.5, 1].map((part) =>
      makeSvg("line", { class: "grid", x1: 0, x2: WIDTH, y1: part * HEIGHT, y2: part * HEIGHT }));
    this.svg = makeSvg(
      "svg",
      {
        viewBox: `0 -4 ${WIDTH} ${HEIGHT + 8}`, preserveAspectRatio: "none", role: "img",
        "aria-label": "Latency by stage over the last two minutes; the table below has the newest numbers",
      },
      ...grid, this.lines,
    );
    this.top = make("span", { class: "top-mark" });
    this.middle = make("span", { class: "middle-mark" });
    const chart = make("div", { class: "plot" }, this.svg, this.top, this.middle, make("span", { class: "low-mark" }, "0"));
    this.body = make("tbody");
    const heads = ["Stage", "p50", "p95", "p99"];
    this.element = make(
      "div", {}, chart, make("p", { class: "soft axis" }, make("span", {}, "2 minutes ago"), make("span", {}, "now")),
      table("Latency by stage, milliseconds", heads, this.body),
    );
  }

  /** `latencies`: percentiles by stage, in milliseconds, null while nothing is measured; `at`: seconds. */
  add(at, latencies) {
    if (latencies !== null) this.take(at, latencies);
    while (this.samples.length && this.samples[0][0] < at - SECONDS) this.samples.shift();
    this.draw(at);
  }

  take(at, latencies) {
    const stages = Object.entries(latencies).sort(([a], [b]) => placeOf(a) - placeOf(b));
    keyed(this.body, this.rows, stages, ([stage]) => stage, (stage) => {
      const row = new Row(stage);
      this.lines.append(row.line);
      return row;
    });
    this.samples.push([at, latencies]);
  }

  draw(now) {
    let highest = 1;
    for (const [, latencies] of this.samples) {
      for (const { p50 } of Object.values(latencies)) highest = Math.max(highest, p50 ?? 0);
    }
    const top = roundUp(highest);
    setText(this.top, `${top} ms`);
    setText(this.middle, `${top / 2} ms`);
    for (const [stage, row] of this.rows) {
      const points = this.samples
        .filter(([, latencies]) => typeof latencies[stage]?.p50 === "number")
        .map(([at, latencies]) => [WIDTH * (1 - (now - at) / SECONDS), HEIGHT * (1 - latencies[stage].p50 / top)]);
      row.line.setAttribute("points", points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" "));
    }
  }
}

const placeOf = (stage) => (ORDER.includes(stage) ? ORDER.indexOf(stage) : ORDER.length);
