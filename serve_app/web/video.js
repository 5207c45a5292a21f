// Live video of one stream: by WebRTC where that works, else as annotated MJPEG in an image.

import { streamPath } from "./client.js";
import { make, setText } from "./dom.js";
import { Viewing } from "./viewing.js";

const FPS = 25;
const AGAIN_MS = 2000;

/** An element with the video. It holds a connection only while it is played and the page is not hidden. */
export class Video {
  constructor(id) {
    this.id = id;
    this.wanted = false;
    this.playing = false;
    this.viewing = null;
    this.byWebRtc = "RTCPeerConnection" in window;
    const label = `Live video of ${id}`;
    this.video = make("video", { "aria-label": label, autoplay: true, playsinline: true, hidden: true });
    this.video.muted = true; // or browsers would not play it by themselves
    this.image = make("img", { alt: label, hidden: true, error: () => this.broke() });
    this.veil = make("p", { class: "veil" });
    this.element = make("div", { class: "view" }, this.video, this.image, this.veil);
    this.shown = () => this.follow();
    document.addEventListener("visibilitychange", this.shown);
  }

  /** How it comes, in words. */
  get way() {
    if (!this.playing) return "–";
    return this.viewing ? "WebRTC" : "MJPEG";
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
    this.viewing?.stop();
    this.viewing = null;
    if (play && this.byWebRtc) this.view();
    else this.showImage(play);
  }

  /** By WebRTC, and by MJPEG from when that fails. */
  view() {
    this.video.hidden = false; // below the veil until it has a picture
    const viewing = new Viewing(this.id, this.video, {
      shown: () => {
        this.veil.hidden = true;
      },
      failed: () => {
        // What never played is not tried again; what did is, the next time that the stream or the tab comes back.
        this.byWebRtc = viewing.played;
        this.viewing = null;
        this.showImage(true);
      },
    });
    this.viewing = viewing;
  }

  showImage(play) {
    if (play) this.image.src = `${streamPath(this.id)}/live.mjpeg?fps=${FPS}&t=${Date.now()}`;
    else this.image.removeAttribute("src"); // which ends the connection
    // An endless picture tells of its first part in no browser alike, so it is shown as soon as it is asked for.
    this.image.hidden = !play;
    this.video.hidden = true;
    this.veil.hidden = play;
  }

  broke() {
    if (!this.playing || this.viewing) return;
    this.playing = false;
    this.showImage(false);
    clearTimeout(this.again);
    this.again = setTimeout(this.shown, AGAIN_MS);
  }
}
