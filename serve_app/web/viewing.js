// One viewing of a stream by WebRTC, as a WHEP player: pictures with little delay, until it is stopped or fails.

import { leave, streamPath, watch } from "./client.js";

/** Host candidates take no longer; without them the server still finds the browser by what it sends. */
const GATHER_MS = 1000;
/** So long without a picture, from the beginning or later, and it has failed. */
const PATIENCE_MS = 6000;
const LOOK_MS = 500;
/** Browsers hold pictures back no longer. */
const LONGEST_HOLD_MS = 4000;

/** All candidates have to be in the offer: the server takes none later. */
function gathered(connection) {
  return new Promise((resolve) => {
    const look = () => connection.iceGatheringState === "complete" && resolve();
    connection.addEventListener("icegatheringstatechange", look);
    setTimeout(resolve, GATHER_MS);
    look();
  });
}

/**
 * Plays into `video`: with boxes, or, where `copied`, the source's own. Calls `shown` with the first picture, and
 * `failed` once where there are none any more.
 */
export class Viewing {
  constructor(id, video, copied, { shown, failed }) {
    this.path = `${streamPath(id)}/whep${copied ? "?codec=copy" : ""}`;
    this.copied = copied;
    this.reached = false;
    this.video = video;
    this.tell = { shown, failed };
    this.over = false;
    this.frames = 0;
    this.movedAt = performance.now();
    this.left = new AbortController();
    video.addEventListener("loadeddata", () => this.look(), { signal: this.left.signal });
    this.looking = setInterval(() => this.look(), LOOK_MS);
    this.connection = new RTCPeerConnection();
    this.connect().catch((error) => {
      if (this.over) return; // what was closed under it
      console.info(`No video of ${id} by WebRTC: ${error.message}`);
      this.reached = error.code === "codec_unsupported";
      this.fail();
    });
  }

  async connect() {
    const { connection } = this;
    this.receiver = connection.addTransceiver("video", { direction: "recvonly" }).receiver;
    this.hold(0);
    connection.addEventListener("track", ({ track }) => {
      this.video.srcObject = new MediaStream([track]);
      this.video.play().catch(() => null); // then no picture comes, which is noticed
    });
    connection.addEventListener("connectionstatechange", () => {
      if (connection.connectionState === "connected") this.reached = true;
      if (["failed", "closed"].includes(connection.connectionState)) this.fail();
    });
    await connection.setLocalDescription();
    await gathered(connection);
    if (this.over) return;
    const { answer, session } = await watch(this.path, connection.localDescription.sdp);
    if (this.over) {
      leave(session);
      return;
    }
    this.session = session;
    await connection.setRemoteDescription({ type: "answer", sdp: answer });
  }

  /** Shows pictures no sooner than so many milliseconds after they came. */
  hold(ms) {
    this.receiver.jitterBufferTarget = Math.min(ms, LONGEST_HOLD_MS);
  }

  /** The video's own time goes on without pictures, so these are counted. */
  look() {
    const { totalVideoFrames: frames } = this.video.getVideoPlaybackQuality();
    if (frames > this.frames) {
      this.movedAt = performance.now();
      if (!this.played) this.tell.shown();
      this.frames = frames;
    } else if (performance.now() - this.movedAt > PATIENCE_MS) this.fail();
  }

  /** Whether there ever was a picture. */
  get played() {
    return this.frames > 0;
  }

  /** Whether it failed for what was to be shown, and not for the way to the stream. */
  get unfit() {
    return this.reached && !this.played;
  }

  fail() {
    if (this.over) return;
    this.stop();
    this.tell.failed();
  }

  stop() {
    if (this.over) return;
    this.over = true;
    this.left.abort();
    clearInterval(this.looking);
    this.connection.close();
    this.video.srcObject = null;
    if (this.session) leave(this.session);
  }
}
