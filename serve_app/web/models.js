// What the detectors run, and how many more streams fit.

import { Poll, Problem, call } from "./client.js";
import { heading, make, panel, say, setText, table } from "./dom.js";
import { may, needs } from "./who.js";
import { LIMITS, nodeName, number, roomInWords } from "./words.js";

const POLL_MS = 5000;

const cells = (...texts) => texts.map((text) => make("td", { class: "figure" }, text));

export function showModels(place) {
  const models = new Models();
  const room = new Room();
  place.append(heading("Models and capacity"), room.element, models.element);
  const poll = new Poll(() => Promise.all([models.refresh(), room.refresh()]), POLL_MS);
  return { title: "Models and capacity", stop: () => poll.stop() };
}

class Room {
  constructor() {
    this.answer = make("p", { class: "big", role: "status" }, "–");
    this.more = make("p", { class: "soft" });
    this.body = make("tbody");
    this.message = make("p", { class: "message", role: "status" });
    this.fps = make("input", { id: "room-fps", type: "number", min: "0.1", max: "240", step: "any", value: "25" });
    this.where = make(
      "select", { id: "room-hwaccel" }, make("option", { value: "none" }, "in software"),
      make("option", { value: "cuda" }, "on a GPU"),
    );
    const fields = make(
      "form", { class: "fields", submit: (event) => event.preventDefault(), input: () => this.refresh() },
      make("label", { class: "field" }, make("span", {}, "Frames a second of each stream"), this.fps),
      make("label", { class: "field" }, make("span", {}, "Decoded"), this.where),
    );
    const heads = ["Node", "Streams", "Fps offered of fps managed", "CPUs used of all", "More by engine", "More by CPUs"];
    this.element = panel(
      "Capacity", this.answer, this.more, fields, this.message, table("Capacity by node", heads, this.body),
    );
  }

  async refresh() {
    if (!this.fps.checkValidity()) return say(this.message, "Frames a second are a number from 0.1 to 240.", true);
    const asked = new URLSearchParams({ fps: this.fps.value || "25", hwaccel: this.where.value });
    try {
      const found = await call("GET", `v1/capacity?${asked}`);
      say(this.message, "");
      this.show(found);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      say(this.message, error.message, true);
    }
  }

  show(found) {
    const room = roomInWords(found);
    setText(this.answer, room[0].toUpperCase() + room.slice(1));
    const limit = found.limit ? ` What runs out first: ${LIMITS[found.limit]}.` : "";
    const waiting = found.waiting ? ` ${found.waiting} wait for room.` : "";
    setText(this.more, `${found.streams} run now.${limit}${waiting}`);
    this.body.replaceChildren(...found.nodes.map((node) => make(
      "tr", {}, make("th", { scope: "row" }, `${nodeName(node.node)}${node.draining ? " (is being emptied)" : ""}`),
      ...cells(
        String(node.streams), `${number(node.used_fps)} of ${number(node.engine_fps)}`,
        `${number(node.cpus_used, 1)} of ${number(node.cpus)}`, number(node.free), number(node.holds),
      ),
    )));
  }
}

class Models {
  constructor() {
    this.body = make("tbody");
    this.message = make("p", { class: "message", role: "status" });
    this.choice = make("select", { id: "swap-model" });
    this.package = make("input", {
      id: "swap-package", required: true, autocomplete: "off", autocapitalize: "none", spellcheck: "false", maxlength: "1000",
    });
    const button = make("button", { type: "submit" }, "Swap");
    const form = make(
      "form", { class: "fields", novalidate: true, submit: (event) => this.swap(event, button) },
      make("label", { class: "field" }, make("span", {}, "Model"), this.choice),
      make("label", { class: "field wide" }, make("span", {}, "Folder of the package below models_root"), this.package),
      button,
    );
    const heads = ["Model", "Package", "Family", "Input", "Engine", "Replicas", "Frames a second", "Classes"];
    const swap = [make("p", { class: "soft" }, "Streams go on meanwhile."), form];
    this.element = panel(
      "Models", table("Models", heads, this.body), make("h3", {}, "Swap a model's package"),
      ...(may("admin") ? swap : [needs("This", "admin")]), this.message,
    );
  }

  async refresh() {
    try {
      this.show((await call("GET", "v1/models")).items);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      say(this.message, error.message, true);
    }
  }

  show(items) {
    const text = JSON.stringify(items);
    if (text === this.shown) return;
    this.shown = text;
    this.body.replaceChildren(...items.map((model) => make(
      "tr", {}, make("th", { scope: "row" }, model.name),
      ...cells(
        model.package ?? "–", model.family, `${model.width} × ${model.height}`, `${model.engine} on ${model.device}`,
        String(model.replicas), number(model.engine_fps),
      ),
      make("td", {}, classesOf(model.class_names)),
    )));
    const chosen = this.choice.value;
    this.choice.replaceChildren(...items.map(({ name }) => make("option", { value: name }, name)));
    if (chosen) this.choice.value = chosen;
  }

  async swap(event, button) {
    event.preventDefault();
    const wanted = this.package.value.trim();
    if (!wanted) {
      say(this.message, "Give the folder of a package.", true);
      return this.package.focus();
    }
    button.disabled = true;
    say(this.message, "All replicas load it beside the old one and try it…");
    try {
      const model = await call("PUT", `v1/models/${encodeURIComponent(this.choice.value)}`, { package: wanted });
      say(this.message, `${model.name} runs ${model.package} now.`);
      await this.refresh();
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      say(this.message, error.message, true);
    } finally {
      button.disabled = false;
    }
  }
}

function classesOf(names) {
  if (names.length <= 6) return names.join(", ");
  return make("details", {}, make("summary", {}, `${names.length}`), names.join(", "));
}
