// Live video of one stream, as annotated MJPEG in an image.

import { streamPath } from "./client.js";
import { make, setText } from "./dom.js";

const FPS = 25;
const AGAIN_MS = 2000;

/** An element with the video. It holds a connection only while it is played and the page is not hidden. */
export class Video {
  constructor(id) {
    this.id = id;
    this.wanted = false;
    this.playing = false;
    this.image = make("img", { alt: `Live video of ${id}`, hidden: true, error: () => this.broke() });
    this.veil = make("p", { class: "veil" });
    this.element = make("div", { class: "view" }, this.image, this.veil);
    this.shown = () => this.follow();
    document.addEventListener("visibilitychange", this.shown);
  }

  /** Take the shape of a source of that size. */
  fit({ width, height }) {
    this.element.style.setProperty("--ratio", width / height);
  }

  /** Play, or stop and show `why` in its place. */
  show(play, why = "") {
    this.wanted = play;
    setText(this.veil, why);
    this.follow();
  }

  close() {
    this.wanted = false;
    this.follow();
    clearTimeout(this.again);
    document.removeEventListener("visibilitychange", this.shown);
  }

  follow() {
    const play = this.wanted && !document.hidden;
    if (play === this.playing) return;
    this.playing = play;
    if (play) this.image.src = `${streamPath(this.id)}/live.mjpeg?fps=${FPS}&t=${Date.now()}`;
    else this.image.removeAttribute("src"); // which ends the connection
    // An endless picture tells of its first part in no browser alike, so it is shown as soon as it is asked for.
    this.image.hidden = !play;
    this.veil.hidden = play;
  }

  broke() {
    if (!this.playing) return;
    this.playing = false;
    this.image.removeAttribute("src");
    this.image.hidden = true;
    this.veil.hidden = false;
    clearTimeout(this.again);
    this.again = setTimeout(this.shown, AGAIN_MS);
  }
}
