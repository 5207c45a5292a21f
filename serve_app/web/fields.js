// Form fields with a label, a hint, and the server's message when it refuses what is in them.

import { make, setText } from "./dom.js";

let count = 0;

/** `input`: the control; `hint`: what to enter; `name`: the spec's field whose errors it shows. */
export class Field {
  constructor(name, label, input, hint = "", wide = false) {
    count += 1;
    this.name = name;
    this.input = input;
    this.message = make("span", { class: "message bad", id: `field-${count}-message` });
    const about = make("span", { class: "hint", id: `field-${count}-hint` }, hint);
    input.id ||= `field-${count}`;
    input.setAttribute("aria-describedby", `${about.id} ${this.message.id}`);
    const caption = make("label", { for: input.id }, label);
    const box = input.type === "checkbox";
    const parts = box ? [make("div", { class: "box" }, input, caption)] : [caption, input];
    this.element = make("div", { class: wide ? "field wide" : "field" }, ...parts, hint ? about : null, this.message);
  }

  get text() {
    return this.input.value.trim();
  }

  refuse(text) {
    setText(this.message, text);
    if (text) this.input.setAttribute("aria-invalid", "true");
    else this.input.removeAttribute("aria-invalid");
  }

  /** Gives it the focus, wherever it is. */
  show() {
    this.element.closest("details")?.setAttribute("open", "");
    this.input.focus();
  }
}

/** A line of text that is no prose: addresses, names. */
export const plainInput = (attributes) =>
  make("input", { autocomplete: "off", autocapitalize: "none", spellcheck: "false", ...attributes });

export const numberInput = (attributes) => make("input", { type: "number", step: "any", ...attributes });

export const choice = (attributes, options) =>
  make("select", attributes, ...options.map(([value, text]) => make("option", { value }, text)));

/** What is between commas; null for nothing. */
export function listIn(text) {
  const items = text.split(",").map((item) => item.trim()).filter(Boolean);
  return items.length ? items : null;
}

/** Marks what is no number, which a browser gives as nothing at all. Says whether there is any. */
export function refuseNoNumbers(fields) {
  const wrong = fields.filter(({ input }) => input.validity.badInput);
  for (const field of wrong) field.refuse("This is no number.");
  wrong[0]?.show();
  return wrong.length > 0;
}

/** Shows each error at its field, the rest in words; the first field that is wrong gets the focus. */
export function refuseFields(fields, problem) {
  let first = null;
  const rest = [];
  for (const field of fields) field.refuse("");
  for (const [name, text] of problem.fields) {
    const field = fields.find((one) => name === one.name || name.startsWith(`${one.name}.`));
    if (!field) rest.push(`${name}: ${text}`);
    field?.refuse(text);
    first ??= field ?? null;
  }
  first?.show();
  if (problem.fields.size && !rest.length) return "";
  return rest.length ? rest.join(". ") : problem.message;
}
