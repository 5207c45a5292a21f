// Zones on a picture: drawn and moved with the mouse, a finger, or the arrow keys.

import { make, makeSvg } from "./dom.js";
import { MAX_POINTS, arrow, distance, insertedAt, middle, moved, movedWhole, within } from "./shapes.js";

/** Pixels within which a click is one on a point. */
const NEAR = 12;
/** Radius of what can be pressed; a point looks smaller. */
const TARGET = 14;
const ARROW = 34;
const STEP = 0.01;
const FINE_STEP = 0.001;
const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/**
 * The drawing surface. `zones` is the caller's list, of which points are changed here.
 * `heard` has: changed(), chosen(index), drawn(kind, points), gaveUp().
 */
export class Drawing {
  constructor(zones, heard) {
    this.zones = zones;
    this.heard = heard;
    this.chosen = -1;
    this.kind = null;
    this.draft = [];
    this.pointer = null;
    this.drag = null;
    this.image = make("img", { alt: "" });
    this.svg = makeSvg("svg", { class: "zone-layer", role: "group", "aria-label": "Zones on the picture", tabindex: "-1" });
    this.element = make("div", { class: "zone-stage" }, this.image, this.svg);
    for (const [name, call] of [["pointerdown", this.press], ["pointermove", this.move], ["pointerup", this.release], ["pointercancel", this.cancel], ["keydown", this.key]]) {
      this.svg.addEventListener(name, call.bind(this));
    }
    this.sizes = new ResizeObserver(() => this.draw());
    this.sizes.observe(this.image);
  }

  close() {
    this.sizes.disconnect();
  }

  /** Put another picture, decoded, below the zones. */
  show(image) {
    this.sizes.unobserve(this.image);
    this.image.replaceWith(image);
    this.image = image;
    this.element.style.setProperty("--ratio", image.naturalWidth / image.naturalHeight);
    this.sizes.observe(image);
  }

  /** Begin to draw a zone; the next clicks are its points. */
  begin(kind) {
    this.kind = kind;
    this.draft = [];
    this.chosen = -1;
    this.svg.classList.add("drawing");
    this.svg.focus({ preventScroll: true });
    this.draw();
  }

  /** Stop drawing without a zone. */
  giveUp() {
    this.kind = null;
    this.draft = [];
    this.svg.classList.remove("drawing");
    this.draw();
    this.heard.gaveUp();
  }

  choose(index) {
    this.chosen = index;
    this.draw();
  }

  // ---- pointer ----

  at(event) {
    const box = this.svg.getBoundingClientRect();
    return [within((event.clientX - box.left) / box.width), within((event.clientY - box.top) / box.height)];
  }

  near(one, other) {
    return distance(this.pixels(one), this.pixels(other)) < NEAR;
  }

  press(event) {
    if (event.button !== 0) return;
    const place = this.at(event);
    event.preventDefault(); // no text is chosen, and the focus stays where it is put here
    this.svg.setPointerCapture(event.pointerId);
    if (this.kind) return this.place(place);
    const { zone, point, edge } = event.target.dataset;
    if (zone === undefined) {
      this.choose(-1);
      this.heard.chosen(-1);
      return;
    }
    const index = Number(zone);
    const shape = this.zones[index];
    let dragged = point === undefined ? null : Number(point);
    if (edge !== undefined) {
      shape.points = insertedAt(shape.points, Number(edge));
      dragged = Number(edge);
    }
    this.drag = { index, point: dragged, from: place, points: shape.points };
    this.choose(index);
    this.heard.chosen(index);
    if (dragged !== null) this.focusPoint(index, dragged);
  }

  place(point) {
    const [first, last] = [this.draft[0], this.draft.at(-1)];
    if (this.kind === "polygon" && this.draft.length > 2 && (this.near(first, point) || this.near(last, point))) return this.finish();
    if (last && this.near(last, point)) return;
    this.draft.push(point);
    this.pointer = point;
    if (this.draft.length === (this.kind === "line" ? 2 : MAX_POINTS)) this.finish();
    else this.draw();
  }

  move(event) {
    const place = this.at(event);
    if (this.kind) {
      this.pointer = place;
      if (this.draft.length) this.draw();
    } else if (this.drag) {
      const { index, point, from, points } = this.drag;
      const [dx, dy] = [place[0] - from[0], place[1] - from[1]];
      const shape = this.zones[index];
      shape.points = point === null
        ? movedWhole(points, dx, dy)
        : points.map((one, number) => (number === point ? place : one));
      this.drag.done = true;
      this.draw();
    }
  }

  release(event) {
    if (this.kind === "line" && this.draft.length === 1 && !this.near(this.draft[0], this.at(event))) this.place(this.at(event));
    if (this.drag?.done) this.heard.changed();
    this.drag = null;
  }

  /** The browser has taken the gesture for one of its own. */
  cancel() {
    if (this.drag) this.heard.changed();
    this.drag = null;
  }

  finish() {
    const { kind, draft } = this;
    this.kind = null;
    this.draft = [];
    this.svg.classList.remove("drawing");
    this.heard.drawn(kind, draft);
  }

  // ---- keyboard ----

  key(event) {
    if (this.kind) return this.keyWhileDrawing(event);
    const { zone, point } = event.target.dataset;
    if (point === undefined) return;
    const shape = this.zones[Number(zone)];
    const [index, place] = [Number(zone), Number(point)];
    const step = KEYS[event.key];
    if (step) {
      const by = event.shiftKey ? FINE_STEP : STEP;
      shape.points = shape.points.map((one, number) => (number === place ? moved(one, step[0] * by, step[1] * by) : one));
    } else if (["Delete", "Backspace"].includes(event.key) && shape.kind === "polygon" && shape.points.length > 3) {
      shape.points = shape.points.filter((_, number) => number !== place);
    } else return;
    event.preventDefault();
    this.draw();
    this.focusPoint(index, Math.min(place, shape.points.length - 1));
    this.heard.changed();
  }

  keyWhileDrawing(event) {
    if (event.key === "Escape") this.giveUp();
    else if (event.key === "Enter" && this.kind === "polygon" && this.draft.length > 2) this.finish();
    else if (event.key === "Backspace") {
      this.draft.pop();
      this.draw();
    } else return;
    event.preventDefault();
  }

  focusPoint(index, point) {
    this.svg.querySelector(`[data-zone="${index}"][data-point="${point}"]`)?.focus({ preventScroll: true });
  }

  // ---- looks ----

  pixels([x, y]) {
    return [x * this.image.clientWidth, y * this.image.clientHeight];
  }

  draw() {
    const focused = this.svg.contains(document.activeElement) ? document.activeElement.dataset : null;
    const [width, height] = [this.image.clientWidth, this.image.clientHeight];
    if (!width) return;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.replaceChildren(...this.zones.flatMap((zone, index) => this.shapeOf(zone, index)), ...this.draftShapes());
    if (focused?.point !== undefined) this.focusPoint(focused.zone, focused.point);
  }

  shapeOf(zone, index) {
    const chosen = index === this.chosen;
    const points = zone.points.map((point) => this.pixels(point));
    const text = points.map((point) => point.join(",")).join(" ");
    const name = zone.kind === "line" ? "polyline" : "polygon";
    const label = this.label(zone, points);
    const parts = [
      makeSvg(name, { class: "shade", points: text }),
      makeSvg(name, { class: "grab", points: text, "data-zone": index }),
      makeSvg(name, { class: "shape", points: text }),
      ...(zone.kind === "line" ? arrowOf(points) : []),
      label,
      ...(chosen ? this.edgesOf(zone, index) : []),
      ...zone.points.flatMap((point, place) => this.handleOf(zone, index, point, place)),
    ];
    return [makeSvg("g", { class: chosen ? "zone chosen" : "zone" }, ...parts)];
  }

  label(zone, points) {
    const [x, y] = zone.kind === "line" ? points[0] : middle(points);
    const after = zone.kind === "line" ? 14 : 0;
    return makeSvg("text", { x: x + after, y: y + 5, class: zone.kind === "line" ? "" : "centred" }, zone.name);
  }

  handleOf(zone, index, point, place) {
    const [cx, cy] = this.pixels(point);
    const where = point.map((part) => `${Math.round(part * 100)} %`);
    const attributes = {
      cx, cy, r: TARGET, class: "handle", tabindex: "0", role: "button", "data-zone": index, "data-point": place,
      "aria-label": `${zone.name}, point ${place + 1} of ${zone.points.length}: ${where[0]} from the left, ${where[1]} from the top. Arrow keys move it.`,
    };
    return [makeSvg("circle", attributes), makeSvg("circle", { cx, cy, r: 8, class: "knob" })];
  }

  edgesOf({ kind, points }, index) {
    if (kind === "line" || points.length >= MAX_POINTS) return [];
    return points.flatMap((point, place) => {
      const [cx, cy] = this.pixels(middle([point, points[(place + 1) % points.length]]));
      const target = makeSvg("circle", { cx, cy, r: TARGET, class: "edge", "data-zone": index, "data-edge": place + 1 });
      return [target, makeSvg("circle", { cx, cy, r: 5, class: "knob small" })];
    });
  }

  draftShapes() {
    if (!this.draft.length) return [];
    const points = [...this.draft, ...(this.pointer ? [this.pointer] : [])].map((point) => this.pixels(point));
    const text = points.map((point) => point.join(",")).join(" ");
    const dots = this.draft.map((point) => this.pixels(point)).map(([cx, cy]) => makeSvg("circle", { cx, cy, r: 6, class: "knob" }));
    const line = this.kind === "line" && points.length === 2 ? arrowOf(points) : [];
    const shapes = ["shade", "shape"].map((name) => makeSvg("polyline", { class: name, points: text }));
    return [makeSvg("g", { class: "zone chosen draft" }, ...shapes, ...line, ...dots)];
  }
}

function arrowOf(points) {
  const [[x1, y1], [x2, y2]] = arrow(points, ARROW);
  const [dx, dy] = [(x2 - x1) / ARROW, (y2 - y1) / ARROW];
  const tip = `${x2},${y2} ${x2 - 11 * dx - 6 * dy},${y2 - 11 * dy + 6 * dx} ${x2 - 11 * dx + 6 * dy},${y2 - 11 * dy - 6 * dx}`;
  return [
    makeSvg("line", { class: "shade", x1, y1, x2, y2 }), makeSvg("line", { class: "shape", x1, y1, x2, y2 }),
    makeSvg("polygon", { class: "tip", points: tip }),
  ];
}
