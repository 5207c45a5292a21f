// The page's frame: which view is shown, by the part of the address behind #, and what the whole system is doing.

import { Poll, Problem, call, csrfToken } from "./client.js";
import { confirmed } from "./dialog.js";
import { announce, heading, make, setText } from "./dom.js";
import { showForm } from "./form.js";
import { showModels } from "./models.js";
import { showStream } from "./stream.js";
import { showWall } from "./wall.js";
import { roomInWords } from "./words.js";
import { may, meet, needs } from "./who.js";
import { showZones } from "./zones.js";

const FACTS_MS = 5000;

const byId = (id) => document.getElementById(id);

// Each view fills an empty place, and gives its title and how it ends; `unsaved` says whether leaving loses something.
const VIEWS = [
  [/^\/?$/, showWall],
  [/^\/add$/, changing(showForm)],
  [/^\/models$/, showModels],
  [/^\/streams\/([^/]+)$/, showStream],
  [/^\/streams\/([^/]+)\/edit$/, changing(showForm)],
  [/^\/streams\/([^/]+)\/zones$/, changing(showZones)],
];

/** A view for those who may change streams. */
function changing(show) {
  return (place, ...names) => {
    if (may("operator")) return show(place, ...names);
    place.append(heading("Only to look at"), needs("Changing streams", "operator"));
    return { title: "Only to look at", stop() {} };
  };
}

let current = null;
let address = null;
let stillHere = ""; // why logging out failed

function viewOf(hash) {
  for (const [pattern, show] of VIEWS) {
    const found = pattern.exec(hash.slice(1));
    if (found) return [show, ...found.slice(1)]; // ids have nothing to decode
  }
  return [showWall];
}

async function route() {
  const wanted = location.hash;
  if (wanted === address) return;
  if (current?.unsaved?.()) {
    history.replaceState(null, "", address || "#/");
    if (!(await confirmed("Leave without saving what you changed?", "Stay", "Leave"))) return;
    history.replaceState(null, "", wanted);
  }
  const first = address === null;
  address = wanted;
  current?.stop();
  const [show, ...names] = viewOf(wanted);
  const place = make("div", { class: "place" });
  byId("main").replaceChildren(place);
  current = show(place, ...names);
  document.title = `${current.title} · raysight`;
  for (const link of document.querySelectorAll("nav a")) {
    const here = link.getAttribute("href") === (wanted || "#/");
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  announce("");
  if (first) return;
  scrollTo(0, 0);
  place.querySelector("h1").focus({ preventScroll: true });
}

function notify(text) {
  setText(byId("notice"), text);
  byId("notice").hidden = !text;
}

async function showFacts() {
  try {
    const [models, capacity] = await Promise.all([call("GET", "v1/models"), call("GET", "v1/capacity")]);
    setText(byId("engine"), models.items.map((model) => `${model.engine} on ${model.device}`).join(", "));
    setText(byId("capacity"), roomInWords(capacity));
    notify(stillHere);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    setText(byId("engine"), "not there");
    setText(byId("capacity"), "–");
    notify(error.message);
  }
}

byId("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the part behind # is the view's
  byId("main").focus();
});
byId("logout").hidden = !csrfToken();
byId("logout").addEventListener("click", async () => {
  try {
    await call("POST", "v1/logout");
    location.reload();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    stillHere = `You are still logged in. ${error.message}`;
    notify(stillHere);
  }
});
addEventListener("hashchange", route);
addEventListener("beforeunload", (event) => {
  if (current?.unsaved?.()) event.preventDefault();
});
const me = await meet();
byId("add").hidden = !may("operator");
byId("me").hidden = !csrfToken() || me === null;
if (me) setText(byId("who"), `${me.name} (${me.role})`);
route();
new Poll(showFacts, FACTS_MS);
