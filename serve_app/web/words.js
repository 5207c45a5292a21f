// What the server's names and numbers are called on the page.

/** By state: its name, and what stands in place of the picture. */
const STATES = {
  pending: ["Waiting", "Waiting for a place to run"],
  connecting: ["Connecting", "Connecting to the source"],
  online: ["Online", "Waiting for the first picture"],
  reconnecting: ["Reconnecting", "The source is away; trying again"],
  paused: ["Paused", "Paused"],
  failed: ["Failed", "Stopped after an error; change it or restart it"],
  stopping: ["Stopping", "Stopping"],
};

/** In place of a state, while the server does not tell it. */
export const UNKNOWN = "Not known";

export const stateName = (state) => STATES[state]?.[0] ?? state;

/** Why a stream shows no picture, in words. */
export function whyNoPicture({ state, reason, last_error: error }) {
  if (state !== "online" && state !== "paused" && error) return error.message;
  return reason || (STATES[state]?.[1] ?? state);
}

export const STAGES = {
  whole: "Decoded to detections",
  decode: "Decode",
  slot: "Wait to be sent",
  letterbox: "Scale and send",
  wait: "Wait for the engine",
  infer: "Infer",
  track: "Follow",
  draw: "Draw",
  encode: "Encode",
};

export const DROPS = {
  superseded: "A newer frame took its place",
  max_fps: "Beyond the rate that is asked for",
  stale: "Too old when its turn came",
  no_detector: "No detector",
  invalid: "Could not be used",
  video: "Left out of the video",
};

export const number = (value, digits = 0) => (typeof value === "number" ? value.toFixed(digits) : "–");

export const sum = (counts) => Object.values(counts ?? {}).reduce((total, count) => total + count, 0);

/** “2 person, 1 dog”, the most first. */
export const countsInWords = (counts) =>
  Object.entries(counts ?? {})
    .filter(([, count]) => count > 0)
    .sort((a, b) => b[1] - a[1])
    .map(([label, count]) => `${count} ${label}`)
    .join(", ");

/** Each life of a stream's process numbers its objects within a range of this size. */
const LIFE = 1e9;

/** The number of a followed object as it is shown: without the part that tells lives apart. */
export const shortId = (tracked) => tracked % LIFE;

export const clock = (at) => new Date(at * 1000).toLocaleTimeString();

/** The time with its date. */
export const day = (at) => new Date(at * 1000).toLocaleString();

/** What a zone has counted, short. */
export function zoneInWords({ name, kind, inside, crossed }) {
  if (kind === "polygon") return `${name}: ${sum(inside)} inside`;
  return `${name}: ${sum(crossed.left_to_right)} to the right, ${sum(crossed.right_to_left)} to the left`;
}

export function sourceInWords({ codec, width, height, fps, audio_codec: audio }) {
  const rate = fps === null ? "" : `, ${number(fps, fps % 1 ? 2 : 0)} fps`;
  return `${codec}, ${width} × ${height}${rate}${audio ? `, sound ${audio}` : ""}`;
}

/** Where an output or a sink goes, how it is, and why it isn't well. */
export function addressedInWords({ url, state, last_error: error }) {
  return `${url}: ${state}${!["online", "idle"].includes(state) && error ? ` (${error.message})` : ""}`;
}

/** What runs out. */
export const LIMITS = {
  engine: "the engine", cpu: "CPUs", nvdec: "places to decode on GPUs", actors: "what Ray has for streams",
};

/** The beginning of a node's long name. */
export const nodeName = (node) => node?.slice(0, 12) ?? "–";

/** How many more streams fit. */
export function roomInWords({ free, fps, limit }) {
  if (free === null) return "room not measured yet";
  if (free > 0) return `room for ${free} more at ${fps} fps`;
  return `no room for another at ${fps} fps${limit ? ` (limit: ${LIMITS[limit]})` : ""}`;
}
