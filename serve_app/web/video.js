// Live video of one stream: by WebRTC where that works, else as annotated MJPEG in an image. By WebRTC it is the
// source's own where nobody has the stream's video encoded anyway; boxes are then drawn here.

import { streamPath } from "./client.js";
import { make, setText } from "./dom.js";
import { Overlay } from "./overlay.js";
import { Viewing } from "./viewing.js";
import { zoneInWords } from "./words.js";

const FPS = 25;
const AGAIN_MS = 2000;

const drawn = ({ codec, annotate }) => codec !== "copy" && annotate;

/** The zones to draw, with what they count. */
function marks(zones, counted) {
  const known = new Map(counted.map((zone) => [zone.name, zone]));
  return zones.map((zone) => ({ ...zone, caption: known.has(zone.name) ? zoneInWords(known.get(zone.name)) : zone.name }));
}

/** An element with the video. It holds a connection only while it is played and the page is not hidden. */
export class Video {
  constructor(id) {
    this.id = id;
    this.wanted = false;
    this.playing = false;
    this.viewing = null;
    this.byWebRtc = "RTCPeerConnection" in window;
    this.byCopy = Overlay.possible;
    this.delayMs = 0;
    const label = `Live video of ${id}`;
    this.video = make("video", { "aria-label": label, autoplay: true, playsinline: true, hidden: true });
    this.video.muted = true; // or browsers would not play it by themselves
    this.overlay = new Overlay(this.video, () => this.instead());
    this.image = make("img", { alt: label, hidden: true, error: () => this.broke() });
    this.veil = make("p", { class: "veil" });
    this.element = make("div", { class: "view" }, this.video, this.overlay.canvas, this.image, this.veil);
    this.shown = () => this.follow();
    document.addEventListener("visibilitychange", this.shown);
  }

  /** How it comes, in words. */
  get way() {
    if (!this.playing) return "–";
    if (!this.viewing) return "MJPEG";
    if (!this.viewing.copied) return "WebRTC";
    const { behindMs } = this.overlay;
    const step = behindMs ? `, boxes ${behindMs} ms behind` : behindMs === 0 ? ", boxes in step" : "";
    return `WebRTC, the source's own${step}`;
  }

  /** Take up what the stream is: its shape, its zones, and which video is best shown. */
  know({ spec, status: { source, zones } }) {
    if (source) this.element.style.setProperty("--ratio", source.width / source.height);
    this.overlay.zones = marks(spec.zones, zones);
    this.copy = source?.webrtc_copy && !spec.outputs.some(drawn);
    this.delayMs = spec.video_delay_ms;
    if (this.viewing?.copied) this.viewing.hold(this.delayMs);
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
    this.end();
    if (play && this.byWebRtc) this.view();
    else this.showImage(play);
  }

  end() {
    this.viewing?.stop();
    this.viewing = null;
    this.overlay.stop();
  }

  /** With boxes, in place of the source's own. */
  instead() {
    this.byCopy = false;
    this.end();
    this.view();
  }

  /** By WebRTC, and by MJPEG from when that fails. */
  view() {
    const copied = this.copy && this.byCopy;
    this.video.hidden = this.veil.hidden = false; // below the veil until it has a picture
    const viewing = new Viewing(this.id, this.video, copied, {
      shown: () => {
        this.veil.hidden = true;
      },
      failed: () => {
        this.end();
        if (copied && viewing.unfit) {
          this.instead();
          return;
        }
        // What never played is not tried again; what did is, the next time that the stream or the tab comes back.
        this.byWebRtc = viewing.played;
        this.showImage(true);
      },
    });
    this.viewing = viewing;
    if (copied) {
      viewing.hold(this.delayMs); // for as long as boxes are waited for where the server draws them
      this.overlay.start();
    }
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
