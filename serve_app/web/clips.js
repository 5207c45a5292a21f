// Clips around events of a stream, newest first.

import { Poll, Problem, call, streamPath } from "./client.js";
import { keyed, make, say } from "./dom.js";
import { day, number } from "./words.js";

const POLL_MS = 5000;
const SHOWN = 50;

/** A card that is there while the stream records. */
export class Clips {
  constructor(id) {
    this.path = `${streamPath(id)}/clips`;
    this.id = id;
    this.known = new Map();
    this.message = make("p", { class: "soft" });
    this.list = make("ul", { class: "plain clips", "aria-label": "Clips", tabindex: "0", hidden: true });
    this.element = make("div", {}, this.message, this.list);
    this.poll = null;
  }

  /** Follow them, or don't. */
  follow(wanted) {
    if (wanted === (this.poll !== null)) return;
    if (wanted) this.poll = new Poll(() => this.refresh(), POLL_MS);
    else this.close();
  }

  async refresh() {
    try {
      const { items } = await call("GET", this.path);
      keyed(this.list, this.known, items.slice(0, SHOWN), (clip) => clip.name, (clip) => this.made(clip));
      this.list.hidden = items.length === 0;
      const more = items.length > SHOWN ? `The newest ${SHOWN} of ${items.length}.` : "";
      say(this.message, items.length ? more : "None yet.");
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      say(this.message, error.message);
    }
  }

  made({ name, started_at: at, seconds, label }) {
    const picture = make("img", { src: `${this.path}/${name}.jpg`, alt: "", loading: "lazy", width: 320, height: 180 });
    const what = `${day(at)}, ${number(seconds)} s${label === null ? "" : `, ${label}`}`;
    const link = { href: `${this.path}/${name}.mp4`, download: `${this.id}-${name}.mp4` };
    return { element: make("li", {}, make("a", link, picture, make("span", {}, what))), update() {} };
  }

  close() {
    this.poll?.stop();
    this.poll = null;
  }
}
