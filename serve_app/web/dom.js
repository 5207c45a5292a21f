// Makers of elements. Text from the server goes in as text only, never as markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** An element; functions among the attributes listen to the event of that name, null children are left out. */
export const make = (name, attributes = {}, ...children) => fill(document.createElement(name), attributes, children);

export const makeSvg = (name, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, name), attributes, children);

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Has an element show a message to people, or nothing. */
export function say(element, text, bad = false) {
  setText(element, text);
  element.classList.toggle("bad", bad && text !== "");
}

/** Tells what changed to those who can't see it. */
export const announce = (text) => setText(document.getElementById("announce"), text);

/** A heading that takes the focus when its view is shown. */
export const heading = (text, ...children) => make("h1", { tabindex: "-1" }, text, ...children);

export const panel = (title, ...children) => make("section", { class: "panel" }, make("h2", {}, title), ...children);

/** A table that scrolls sideways where it has to. */
export function table(caption, heads, body) {
  const row = make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)));
  const whole = make("table", {}, make("caption", { class: "unseen" }, caption), make("thead", {}, row), body);
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, whole);
}

/** Keeps children by key: makes those that are new, updates all, removes those that are gone; in the order given. */
export function keyed(parent, known, items, keyOf, made) {
  const gone = new Set(known.keys());
  items.forEach((item, place) => {
    const key = keyOf(item);
    gone.delete(key);
    if (!known.has(key)) known.set(key, made(item));
    const child = known.get(key);
    if (parent.children[place] !== child.element) parent.insertBefore(child.element, parent.children[place] ?? null);
    child.update(item);
  });
  for (const key of gone) {
    known.get(key).stop?.();
    known.get(key).element.remove();
    known.delete(key);
  }
}
