// The form that adds a stream or changes one. The source is looked at before anything is saved.

import { Problem, call, streamPath } from "./client.js";
import { heading, make, say } from "./dom.js";
import { Field, choice, listIn, numberInput, plainInput, refuseFields, refuseNoNumbers } from "./fields.js";
import { FRESH, addressedIn, addressesOf, labelsAsText, labelsIn, patchOf, wholePatchOf } from "./spec.js";
import { number, roomInWords, sourceInWords } from "./words.js";

/** Reasons for which a stream may be saved all the same: its source may come later, or needs what the form does not have. */
const FORGIVEN = new Set([
  "auth_failed", "not_found", "tls_failed", "connection_refused", "timeout", "invalid_data", "stalled", "ended", "overloaded",
]);

const CHANGED = "Not saved. Somebody else has changed the stream meanwhile: cancel, and edit it again.";

/** Without an id: a new stream. */
export function showForm(place, id) {
  const form = new Form(id);
  place.append(heading(id ? `Edit ${id}` : "Add a stream"), form.loading, form.element);
  form.load();
  return { title: id ? `Edit ${id}` : "Add a stream", unsaved: () => form.unsaved, stop: () => form.stop() };
}

class Form {
  constructor(id) {
    this.id = id;
    this.unsaved = false;
    this.left = new AbortController();
    this.checked = null;
    this.loading = make("p", { class: "message", role: "status" });
    this.fields = this.makeFields();
    this.found = make("p", { class: "message", role: "status", id: "found" });
    this.message = make("p", { class: "message", role: "status", id: "form-message" });
    this.check = make("button", { type: "button", id: "check", click: () => this.look() }, "Check the source");
    this.save = make("button", { type: "submit", class: "primary" }, id ? "Save" : "Add stream");
    this.anyway = make(
      "button", { type: "button", id: "anyway", hidden: true, click: () => this.send() }, id ? "Save anyway" : "Add anyway",
    );
    this.element = make(
      "form",
      { class: "panel form", novalidate: true, hidden: true, submit: (event) => this.submit(event), input: () => this.touched() },
      ...this.groups(), this.message,
      make(
        "div", { class: "actions" }, this.save, this.anyway,
        make("a", { class: "button", href: id ? `#/streams/${encodeURIComponent(id)}` : "#/" }, "Cancel"),
      ),
    );
  }

  makeFields() {
    const yes = (attributes) => make("input", { type: "checkbox", ...attributes });
    const text = (attributes) => make("textarea", { rows: "2", autocapitalize: "none", spellcheck: "false", ...attributes });
    const transports = [["tcp", "TCP"], ["udp", "UDP"]];
    return {
      id: new Field("id", "Name", plainInput({ id: "add-id", maxlength: "63" }), "Small letters, digits and hyphens, such as gate-3. Left empty, one is picked."),
      url: new Field(
        "source.url", "Address", plainInput({ id: "add-url", maxlength: "4096", required: true, placeholder: "rtsp://camera/stream" }),
        "RTSP, RTMP, SRT, HTTP, v4l2:, file: or testsrc://", true,
      ),
      user: new Field("source.credentials.username", "User", plainInput({ id: "add-user", maxlength: "256" }), this.id ? "Left empty, what was given before holds." : "Where the camera asks for one."),
      password: new Field("source.credentials.password", "Password", make("input", { id: "add-password", type: "password", autocomplete: "new-password", maxlength: "256" }), "Never shown again."),
      transport: new Field("source.transport", "RTSP over", choice({}, transports), ""),
      loop: new Field("source.loop", "Play a file again and again", yes({}), ""),
      model: new Field("detect.model", "Model", choice({}, [["default", "default"]]), ""),
      confidence: new Field("detect.confidence", "Least confidence", numberInput({ min: "0.01", max: "1" }), "0.01 to 1"),
      classes: new Field("detect.classes", "Classes", plainInput({ placeholder: "person, car" }), "Split by commas; empty: all."),
      rate: new Field("detect.max_fps", "Frames a second at most", numberInput({ min: "0.1", max: "240" }), "Empty: every frame."),
      track: new Field("track", "Follow objects", yes({}), "Zones need it."),
      priority: new Field("priority", "Priority", numberInput({ min: "-100", max: "100", step: "1" }), "-100 to 100; higher ones are served first."),
      outputs: new Field("outputs", "Outputs", text({ placeholder: "rtsp://media:8554/gate-3" }), "Where annotated video goes, an address a line.", true),
      sinks: new Field("sinks", "Sinks", text({ placeholder: "mqtt://broker/gate-3" }), "Where events are sent, an address a line; what else is set of those that stay is kept.", true),
      labels: new Field("labels", "Labels", text({ placeholder: "site=north" }), "name=value, one a line.", true),
    };
  }

  groups() {
    const { fields: all } = this;
    const group = (...fields) => make("div", { class: "fields" }, ...fields.map(({ element }) => element));
    return [
      group(...(this.id ? [] : [all.id]), all.url),
      group(all.user, all.password),
      make("div", { class: "actions" }, this.check, this.found),
      make(
        "details", { open: Boolean(this.id) }, make("summary", {}, "More settings"),
        group(all.transport, all.loop), group(all.model, all.confidence, all.rate, all.priority),
        group(all.classes, all.track), group(all.outputs), group(all.sinks), group(all.labels),
      ),
    ];
  }

  async load() {
    say(this.loading, "Loading…");
    try {
      const [models, view] = await Promise.all([
        call("GET", "v1/models").catch(() => ({ items: [{ name: "default" }] })),
        this.id ? call("GET", streamPath(this.id)) : { spec: FRESH, status: {} },
      ]);
      this.before = view.spec;
      this.generation = view.status.generation;
      const names = new Set([...models.items.map(({ name }) => name), view.spec.detect.model]);
      this.fields.model.input.replaceChildren(...[...names].map((name) => make("option", { value: name }, name)));
      this.fill(view.spec);
      say(this.loading, "");
      this.element.hidden = false;
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      say(this.loading, error.message, true);
    }
  }

  fill({ source, detect, track, outputs, sinks, priority, labels }) {
    const { fields } = this;
    fields.url.input.value = source.url;
    fields.transport.input.value = source.transport;
    fields.loop.input.checked = source.loop;
    fields.model.input.value = detect.model;
    fields.confidence.input.value = detect.confidence;
    fields.classes.input.value = (detect.classes ?? []).join(", ");
    fields.rate.input.value = detect.max_fps ?? "";
    fields.track.input.checked = track !== null;
    fields.priority.input.value = priority;
    fields.outputs.input.value = addressesOf(outputs);
    fields.sinks.input.value = addressesOf(sinks);
    fields.labels.input.value = labelsAsText(labels);
  }

  touched() {
    this.unsaved = true;
    this.anyway.hidden = true;
    if (this.looked !== JSON.stringify(this.source())) say(this.found, ""); // it was about another source
  }

  source() {
    const { fields } = this;
    const source = { url: fields.url.text, transport: fields.transport.input.value, loop: fields.loop.input.checked };
    const [username, password] = [fields.user.text, fields.password.input.value];
    return username || password ? { ...source, credentials: { username, password } } : source;
  }

  /** What the form holds, as far as it names it. Raises an Error in words. */
  wanted() {
    const { fields } = this;
    const numberOf = (field) => (field.text === "" ? null : Number(field.text));
    return {
      source: this.source(),
      detect: {
        model: fields.model.input.value, confidence: numberOf(fields.confidence) ?? FRESH.detect.confidence,
        classes: listIn(fields.classes.text), max_fps: numberOf(fields.rate),
      },
      track: fields.track.input.checked ? (this.before.track ?? {}) : null,
      outputs: addressedIn(fields.outputs.input.value, this.before.outputs),
      sinks: addressedIn(fields.sinks.input.value, this.before.sinks),
      priority: numberOf(fields.priority) ?? 0,
      labels: labelsIn(fields.labels.input.value),
    };
  }

  /** Whether there is an address to go on with. */
  ready() {
    for (const field of Object.values(this.fields)) field.refuse("");
    if (this.fields.url.text) return true;
    this.fields.url.refuse("Give the address of a camera or file.");
    this.fields.url.input.focus();
    return false;
  }

  /** Looks at the source. Says whether that went well. */
  async look() {
    if (!this.ready()) return false;
    const source = this.source();
    this.looked = JSON.stringify(source);
    this.busy(true);
    say(this.message, "");
    say(this.found, "Looking at the source…");
    try {
      const found = await call("POST", "v1/probe", source, this.left);
      this.checked = JSON.stringify(source);
      say(this.found, `Found ${sourceInWords(found)}. ${await this.room(found.fps)}`);
      return true;
    } catch (error) {
      if (!(error instanceof Problem)) return false; // the view was left
      const said = refuseFields(this.sourceFields(), error) || "The source can't be used as it is.";
      const kept = this.id && error.code === "auth_failed" && !source.credentials;
      say(this.found, kept ? `${said} A password that was kept is not tried: give it again, or save anyway.` : said, true);
      this.anyway.hidden = !FORGIVEN.has(error.code);
      return false;
    } finally {
      this.busy(false);
    }
  }

  sourceFields() {
    // A probe's body is the source alone.
    return Object.values(this.fields).filter(({ name }) => name.startsWith("source.")).map((field) => ({
      name: field.name.slice("source.".length), show: () => field.show(), refuse: (text) => field.refuse(text),
    }));
  }

  async room(fps) {
    const asked = Math.round(100 * (fps || 25)) / 100;
    const found = await call("GET", `v1/capacity?fps=${asked}`).catch(() => null);
    if (found === null) return "";
    const room = roomInWords({ ...found, fps: number(asked, asked % 1 ? 2 : 0) });
    return `${room[0].toUpperCase()}${room.slice(1)}.`;
  }

  async submit(event) {
    event.preventDefault();
    if (!this.ready()) return;
    const source = this.source();
    const changed = Object.keys(patchOf(this.before.source, source)).length > 0;
    if (changed && this.checked !== JSON.stringify(source) && !(await this.look())) return;
    await this.send();
  }

  async send() {
    let wanted;
    try {
      wanted = this.wanted();
    } catch (error) {
      this.fields.labels.refuse(error.message);
      this.fields.labels.show();
      return;
    }
    if (refuseNoNumbers(Object.values(this.fields))) return;
    this.busy(true);
    say(this.message, "Saving…");
    try {
      const view = this.id ? await this.change(wanted) : await this.create(wanted);
      this.unsaved = false;
      location.hash = `#/streams/${encodeURIComponent(view.spec.id)}`;
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (error.code === "stream_exists") error.fields.set("id", "There is a stream of this name: take another.");
      const meanwhile = error.code === "precondition_failed" && CHANGED;
      say(this.message, meanwhile || refuseFields(Object.values(this.fields), error), true);
    } finally {
      this.busy(false);
    }
  }

  create(wanted) {
    const id = this.fields.id.text;
    return call("POST", "v1/streams", { ...(id ? { id } : {}), ...wanted });
  }

  change(wanted) {
    const patch = patchOf(this.before, { ...wanted, labels: this.before.labels });
    const labels = wholePatchOf(this.before.labels, wanted.labels);
    if (Object.keys(labels).length) patch.labels = labels;
    return call("PATCH", streamPath(this.id), patch, { generation: this.generation });
  }

  busy(is) {
    for (const button of [this.check, this.save, this.anyway]) button.disabled = is;
  }

  stop() {
    this.left.abort();
  }
}
