// Boxes over a video on which the server has drawn nothing: of each picture those that were found in it.

import { make } from "./dom.js";
import { paint } from "./painting.js";

/** Ticks of a second, of RTP video. */
const SECOND = 90_000;
/** Events kept: ten seconds at 25 a second, where the video comes as late as that. */
const KEPT = 256;
/** Boxes of an earlier picture are shown for so long, where a picture has none of its own (yet). */
const LASTS = 2 * SECOND;

/** Detections by the time of their picture. */
class Found {
  constructor() {
    this.events = [];
  }

  add(event) {
    const [numerator, denominator] = event.time_base.split("/").map(Number);
    event.at = Math.round((event.pts * numerator * SECOND) / denominator);
    if (event.at <= this.events.at(-1)?.at) this.events = []; // of another life of the stream
    this.events.push(event);
    if (this.events.length > KEPT) this.events.shift();
  }

  /** Those of the picture with that RTP time, of which there are 32 bits; else of the one before it. */
  of(time) {
    return this.events.findLast(({ at }) => ((time - at) | 0) >= 0 && ((time - at) | 0) <= LASTS);
  }
}

/**
 * A canvas over `video`, and what switches it. `unable` is called where the browser does not tell which picture it
 * shows.
 */
export class Overlay {
  constructor(video, unable) {
    this.video = video;
    this.unable = unable;
    this.zones = [];
    this.canvas = make("canvas", { "aria-hidden": "true", hidden: true });
    this.box = make("input", { type: "checkbox", id: "boxes", checked: true, change: () => this.draw() });
    this.control = make("div", { class: "box", hidden: true }, this.box, make("label", { for: "boxes" }, "Boxes and zones"));
  }

  /** Whether this browser has what it takes. */
  static get possible() {
    return "requestVideoFrameCallback" in HTMLVideoElement.prototype;
  }

  start() {
    this.found = new Found();
    this.time = this.drawn = undefined;
    this.canvas.hidden = this.control.hidden = false;
    this.next();
  }

  stop() {
    if (!this.found) return;
    this.found = null;
    this.video.cancelVideoFrameCallback(this.asked);
    this.canvas.hidden = this.control.hidden = true;
  }

  /** By how many milliseconds what is drawn is older than the picture; undefined where nothing is. */
  get behindMs() {
    return this.drawn && Math.round((1000 * ((this.time - this.drawn.at) | 0)) / SECOND);
  }

  next() {
    this.asked = this.video.requestVideoFrameCallback((now, { rtpTimestamp }) => {
      if (rtpTimestamp === undefined) {
        this.unable();
        return;
      }
      this.next();
      this.time = rtpTimestamp;
      this.draw();
    });
  }

  /** Takes an event's JSON. */
  take(data) {
    if (!this.found) return;
    this.found.add(JSON.parse(data));
    if (this.found.of(this.time) !== this.drawn) this.draw(); // it came after its picture
  }

  draw() {
    if (this.time === undefined) return;
    const { clientWidth, clientHeight, videoWidth, videoHeight } = this.video;
    const scale = devicePixelRatio * Math.min(clientWidth / videoWidth, clientHeight / videoHeight);
    const [width, height] = [Math.round(videoWidth * scale), Math.round(videoHeight * scale)];
    if (this.canvas.width !== width) this.canvas.width = width;
    if (this.canvas.height !== height) this.canvas.height = height;
    const context = this.canvas.getContext("2d");
    context.clearRect(0, 0, width, height);
    this.drawn = this.found.of(this.time);
    if (this.box.checked) paint(context, devicePixelRatio, this.drawn, this.zones);
  }
}
