// The zone editor: a picture of the stream with its zones, and a list of them with names, classes and times.

import { Problem, call, streamPath } from "./client.js";
import { Coordinates } from "./coordinates.js";
import { announce, heading, make, say, setText } from "./dom.js";
import { Drawing } from "./drawing.js";
import { Field, listIn, numberInput, plainInput, refuseNoNumbers } from "./fields.js";
import { START, divided, freeName } from "./shapes.js";
import { whyNoPicture } from "./words.js";

const AGAIN_MS = 2000;
const MARKED = "Not saved: mend what is marked.";
const WORDS = { line: "line", polygon: "area" };
const HOW = {
  line: "Click where the line begins and where it ends, or draw it in one go. Escape gives up.",
  polygon: "Click the corners of the area one after the other; click the first one again, or press Enter, to close it. Escape gives up.",
};

export function showZones(place, id) {
  const editor = new Editor(id);
  place.append(...editor.parts);
  editor.load();
  return { title: `Zones of ${id}`, unsaved: () => editor.unsaved, stop: () => editor.stop() };
}

class Editor {
  constructor(id) {
    this.id = id;
    this.path = streamPath(id);
    this.zones = [];
    this.items = [];
    this.stopped = false;
    this.drawing = new Drawing(this.zones, {
      changed: () => this.changed(),
      chosen: (index) => this.mark(index),
      drawn: (kind, points) => this.add(kind, points),
      gaveUp: () => this.hint(),
    });
    this.how = make("p", { class: "soft", role: "status", id: "how" });
    this.message = make("p", { class: "message", role: "status", id: "zones-message" });
    this.list = make("ul", { class: "plain zone-list" });
    this.save = make("button", { type: "button", class: "primary", id: "save", click: () => this.send() }, "Save zones");
    this.parts = [this.head(), this.body()];
  }

  get unsaved() {
    return this.saved !== undefined && JSON.stringify(this.zones) !== this.saved;
  }

  head() {
    const back = `#/streams/${encodeURIComponent(this.id)}`;
    return make(
      "div", { class: "head" }, heading(`Zones of ${this.id}`),
      make("div", { class: "actions" }, make("a", { class: "button", href: back }, "Back to the stream")),
    );
  }

  body() {
    const tool = (kind, text) => make("button", { type: "button", id: `draw-${kind}`, click: (event) => this.begin(kind, event) }, text);
    this.wait = make("p", { class: "veil" }, "Waiting for a picture of the stream…");
    this.drawing.element.append(this.wait);
    return make(
      "div", { class: "columns" },
      make(
        "div", { class: "column wide" },
        make(
          "div", { class: "actions" }, tool("line", "Draw a line"), tool("polygon", "Draw an area"),
          make("button", { type: "button", id: "picture", click: () => this.look() }, "New picture"),
        ),
        this.how, this.drawing.element,
      ),
      make(
        "section", { class: "column panel", "aria-labelledby": "list-title" }, make("h2", { id: "list-title" }, "Zones"),
        this.list, make("div", { class: "actions" }, this.save), this.message,
      ),
    );
  }

  async load() {
    try {
      const [view, models] = await Promise.all([call("GET", this.path), call("GET", "v1/models").catch(() => ({ items: [] }))]);
      this.track = view.spec.track;
      this.generation = view.status.generation;
      const model = models.items.find(({ name }) => name === view.spec.detect.model);
      this.known = view.spec.detect.classes ?? model?.class_names ?? [];
      this.zones.push(...view.spec.zones);
      this.saved = JSON.stringify(this.zones);
      this.listZones();
      this.drawing.draw();
      this.hint();
      this.look();
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      say(this.message, error.message, true);
    }
  }

  /** Shows the newest picture; asks again until there is one. */
  async look() {
    clearTimeout(this.again);
    const src = `${this.path}/snapshot.jpg?annotated=false&t=${Date.now()}`;
    const image = make("img", { src, alt: `Picture of ${this.id}`, draggable: "false" });
    const came = await image.decode().then(() => true, () => false);
    if (this.stopped) return;
    if (came) {
      this.drawing.show(image);
      this.wait.hidden = true;
    } else {
      this.explain();
      this.again = setTimeout(() => this.look(), AGAIN_MS);
    }
  }

  /** Says why there is no picture, as that of a stream that is paused never comes. */
  async explain() {
    const view = await call("GET", this.path).catch(() => null);
    if (view) setText(this.wait, `Waiting for a picture of the stream: ${whyNoPicture(view.status)}`);
  }

  hint() {
    const none = "Draw a line that people cross, or an area that they enter: who does is counted from then on.";
    setText(this.how, this.zones.length ? "Points can be dragged, or moved with the arrow keys." : none);
  }

  /** By mouse the user draws; by keyboard a zone in the middle of the picture is there to be moved. */
  begin(kind, event) {
    if (event.detail === 0) {
      this.add(kind, START[kind].map((point) => [...point]));
      this.drawing.focusPoint(this.zones.length - 1, 0);
      return;
    }
    setText(this.how, HOW[kind]);
    this.drawing.begin(kind);
    this.mark(-1);
  }

  add(kind, points) {
    const name = freeName(WORDS[kind], this.zones.map((zone) => zone.name));
    this.zones.push({ name, kind, points, classes: null, dwell_s: null });
    this.listZones();
    this.drawing.choose(this.zones.length - 1);
    this.mark(this.zones.length - 1);
    this.hint();
    this.changed();
  }

  remove(index) {
    const [{ name }] = this.zones.splice(index, 1);
    this.listZones();
    this.drawing.choose(-1);
    this.hint();
    this.changed();
    announce(`${name} is taken out`);
    (this.items[Math.min(index, this.items.length - 1)]?.name.input ?? this.save).focus();
  }

  changed() {
    say(this.message, this.unsaved ? "Not saved yet." : "");
    for (const item of this.items) item.moved();
  }

  mark(index) {
    this.items.forEach((item, place) => item.element.classList.toggle("chosen", place === index));
  }

  listZones() {
    this.items = this.zones.map((zone, index) => new Item(this, zone, index));
    this.list.replaceChildren(...this.items.map((item) => item.element));
    if (!this.items.length) this.list.append(make("li", { class: "soft" }, "None yet."));
  }

  async send() {
    for (const item of this.items) item.refuse(new Map());
    if (refuseNoNumbers(this.items.flatMap(({ fields }) => fields))) return say(this.message, MARKED, true);
    this.save.disabled = true;
    say(this.message, "Saving…");
    try {
      const view = await this.stored();
      this.generation = view.status.generation;
      this.track = view.spec.track;
      this.saved = JSON.stringify(this.zones);
      say(this.message, this.zones.length ? "Saved. Counting begins with the next frame." : "Saved: nothing is counted.");
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      this.refuse(error);
    } finally {
      this.save.disabled = false;
    }
  }

  /** Stores the zones, unless somebody else has changed them; other changes of the stream don't matter. */
  async stored() {
    const patch = { zones: this.zones, ...(this.track === null && this.zones.length ? { track: {} } : {}) };
    try {
      return await call("PATCH", this.path, patch, { generation: this.generation });
    } catch (error) {
      if (error.code !== "precondition_failed") throw error;
      const { spec, status } = await call("GET", this.path);
      if (JSON.stringify(spec.zones) !== this.saved) {
        throw new Problem("Somebody else has changed the zones meanwhile. Go back to the stream and begin again.", error.code);
      }
      return call("PATCH", this.path, patch, { generation: status.generation });
    }
  }

  refuse(problem) {
    const rest = [];
    for (const [field, text] of problem.fields) {
      const [, index, part] = /^zones\.(\d+)\.?(\w*)/.exec(field) ?? [];
      if (this.items[index]?.refuse(new Map([[part, text]]))) continue;
      rest.push(text);
    }
    const mend = problem.fields.size && !rest.length ? MARKED : "";
    say(this.message, mend || `Not saved. ${rest.join(". ") || problem.message}`, true);
    this.items.find((item) => item.wrong)?.wrong.focus();
  }

  stop() {
    this.stopped = true;
    clearTimeout(this.again);
    this.drawing.close();
  }
}

/** One zone in the list. */
class Item {
  constructor(editor, zone, index) {
    this.editor = editor;
    this.zone = zone;
    const area = zone.kind === "polygon";
    this.name = new Field("name", "Name", plainInput({ maxlength: "40", value: zone.name }));
    const known = editor.known.length ? `Such as ${editor.known.slice(0, 3).join(", ")}; empty: all.` : "Empty: all.";
    this.classes = new Field("classes", "Classes that count", plainInput({ value: (zone.classes ?? []).join(", ") }), known);
    this.dwell = new Field("dwell_s", "Tell who stays longer than (s)", numberInput({ min: "1", value: zone.dwell_s ?? "" }), "Empty: nobody.");
    this.fields = [this.name, this.classes, ...(area ? [this.dwell] : [])];
    this.points = make("span", { class: "message bad" });
    this.coordinates = new Coordinates(zone, () => this.redrawn());
    this.direction = make("p", { class: "soft", hidden: area });
    const button = (text, what, more = {}) =>
      make("button", { type: "button", "aria-label": `${text}: ${zone.name}`, click: what, ...more }, text);
    this.element = make(
      "li", { "data-zone": zone.name, focusin: () => this.chosen(index), input: () => this.take() },
      make("h3", {}, area ? "Area" : "Line"), make("div", { class: "fields" }, ...this.fields.map(({ element }) => element)),
      this.points, this.direction, this.coordinates.element,
      make(
        "div", { class: "actions" },
        area ? button("Add a point", () => this.divide(index)) : button("Turn around", () => this.turn()),
        button("Delete", () => editor.remove(index), { class: "danger" }),
      ),
    );
    this.moved();
  }

  chosen(index) {
    this.editor.drawing.choose(index);
    this.editor.mark(index);
  }

  take() {
    this.zone.name = this.name.text;
    this.zone.classes = listIn(this.classes.text);
    if (this.zone.kind === "polygon") this.zone.dwell_s = this.dwell.text ? Number(this.dwell.text) : null;
    const unknown = (this.zone.classes ?? []).filter((label) => this.editor.known.length && !this.editor.known.includes(label));
    this.classes.refuse(unknown.length ? `The stream does not report “${unknown.join("”, “")}”.` : "");
    this.redrawn();
  }

  redrawn() {
    this.editor.drawing.draw();
    this.editor.changed();
  }

  turn() {
    this.zone.points = [...this.zone.points].reverse();
    this.redrawn();
    announce(this.direction.textContent);
  }

  divide(index) {
    const [points, place] = divided(this.zone.points);
    this.zone.points = points;
    this.editor.drawing.draw();
    this.editor.drawing.focusPoint(index, place);
    this.editor.changed();
  }

  /** Says where its points are now, and which way counts as to the right. */
  moved() {
    this.coordinates.show();
    if (this.zone.kind !== "line") return;
    const [[x1, y1], [x2, y2]] = this.zone.points;
    const [right, down] = [y1 - y2, x2 - x1];
    const way = Math.abs(right) > Math.abs(down) ? (right > 0 ? "right" : "left") : down > 0 ? "lower" : "upper";
    const edge = `the ${way} ${way === "lower" || way === "upper" ? "edge" : "side"} of the picture`;
    setText(this.direction, `The arrow, towards ${edge}, is “to the right” of the line; against it is “to the left”.`);
  }

  /** Shows what the server says of the zone. Says whether there was anything. */
  refuse(messages) {
    this.wrong = null;
    for (const field of this.fields) {
      field.refuse(messages.get(field.name) ?? "");
      if (messages.has(field.name)) this.wrong = field.input;
    }
    const rest = messages.get("points") ?? (this.wrong || !messages.size ? "" : [...messages.values()][0]);
    setText(this.points, rest);
    if (rest) this.wrong = this.name.input;
    return this.wrong !== null;
  }
}
