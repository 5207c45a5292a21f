// Between what a form holds and a stream's spec; no elements here.

/** What is new to make a stream of. */
export const FRESH = {
  source: { url: "", transport: "tcp", loop: false },
  detect: { model: "default", confidence: 0.35, classes: null, max_fps: null },
  track: null,
  outputs: [],
  sinks: [],
  priority: 0,
  labels: {},
};

/** “key=value” lines to an object. Raises an Error in words. */
export function labelsIn(text) {
  const labels = {};
  for (const line of text.split("\n").map((one) => one.trim()).filter(Boolean)) {
    const place = line.indexOf("=");
    if (place < 1) throw new Error(`“${line}” is no label: write name=value.`);
    labels[line.slice(0, place).trim()] = line.slice(place + 1).trim();
  }
  return labels;
}

export const labelsAsText = (labels) => Object.entries(labels).map(([key, value]) => `${key}=${value}`).join("\n");

/** Outputs or sinks by lines of addresses; those that were there keep their other settings. */
export function addressedIn(text, before) {
  const urls = text.split("\n").map((one) => one.trim()).filter(Boolean);
  return urls.map((url) => before.find((one) => one.url === url) ?? { url });
}

export const addressesOf = (addressed) => addressed.map(({ url }) => url).join("\n");

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

/** The JSON merge patch (RFC 7396) that makes `after` of `before`; what `after` does not name stays. */
export function patchOf(before, after) {
  const patch = {};
  for (const [name, value] of Object.entries(after)) {
    if (isObject(value) && isObject(before?.[name])) {
      const inner = patchOf(before[name], value);
      if (Object.keys(inner).length) patch[name] = inner;
    } else if (!same(value, before?.[name])) patch[name] = value;
  }
  return patch;
}

/** The same where `after` is whole: what it does not name goes. */
export function wholePatchOf(before, after) {
  const gone = Object.keys(before).filter((name) => !(name in after)).map((name) => [name, null]);
  return { ...patchOf(before, after), ...Object.fromEntries(gone) };
}
