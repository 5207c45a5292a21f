// Boxes, labels and zones on a canvas; they look as those that the server draws.

import { arrow } from "./shapes.js";
import { shortId } from "./words.js";

/** Neighbouring classes get hues far apart, and a class keeps its own for ever. */
const GOLDEN_RATIO = 0.618033988749895;
const ZONE = [1, 0.85, 0];
/** Length of the arrow that shows which side of a line is the right one, of the picture's height. */
const ARROW = 0.05;
const LINE = 2;
const FONT = 13;
const MARGIN = 4;

/** Red, green and blue, 0 to 1. */
function classColour(id) {
  const [saturation, value] = id % 2 ? [0.65, 0.8] : [0.95, 1];
  const part = (shift) => {
    const place = (shift + ((id * GOLDEN_RATIO) % 1) * 6) % 6;
    return value - value * saturation * Math.max(0, Math.min(place, 4 - place, 1));
  };
  return [part(5), part(3), part(1)];
}

const css = (colour) => `rgb(${colour.map((part) => Math.round(part * 255)).join(" ")})`;

const inkOn = ([red, green, blue]) => (0.3 * red + 0.59 * green + 0.11 * blue > 0.5 ? "#000" : "#fff");

/** A label above the point, inside where there is no room above, moved left where it would stick out. */
function label(context, unit, text, colour, x, y) {
  const [width, height] = [context.measureText(text).width + 2 * MARGIN * unit, (FONT + MARGIN) * unit];
  const left = Math.max(0, Math.min(x, context.canvas.width - width));
  const top = y >= height ? y - height : y;
  context.fillStyle = css(colour);
  context.fillRect(left, top, width, height);
  context.fillStyle = inkOn(colour);
  context.fillText(text, left + MARGIN * unit, top + height / 2);
}

function paintZone(context, unit, { kind, points, caption }) {
  const { width, height } = context.canvas;
  const placed = points.map(([x, y]) => [x * width, y * height]);
  const lines = [kind === "polygon" ? [...placed, placed[0]] : placed];
  if (kind === "line") {
    const [from, [x, y]] = arrow(placed, ARROW * height);
    const back = Math.atan2(from[1] - y, from[0] - x);
    const tip = (turn) => [x + 0.4 * ARROW * height * Math.cos(back + turn), y + 0.4 * ARROW * height * Math.sin(back + turn)];
    lines.push([from, [x, y]], [tip(0.6), [x, y], tip(-0.6)]);
  }
  context.strokeStyle = css(ZONE);
  context.beginPath();
  for (const line of lines) line.forEach(([x, y], place) => (place ? context.lineTo(x, y) : context.moveTo(x, y)));
  context.stroke();
  label(context, unit, caption, ZONE, ...placed[0]);
}

function paintObject(context, unit, scale, { class_id: id, label: name, confidence, tracker_id: tracked, box }) {
  const colour = classColour(id);
  const [left, top, right, bottom] = box.map((side) => side * scale);
  context.strokeStyle = css(colour);
  context.strokeRect(left, top, right - left, bottom - top);
  const number = tracked === null ? "" : `#${shortId(tracked)} `;
  label(context, unit, `${name} ${number}${confidence.toFixed(2)}`, colour, left, top);
}

/**
 * Fills the canvas with zones, and over them the objects of `event`, if there is one, the most confident on top.
 * `unit`: pixels of the canvas in one of the page; a zone has `kind`, `points` and `caption`.
 */
export function paint(context, unit, event, zones) {
  context.lineWidth = LINE * unit;
  context.lineJoin = "round";
  context.font = `600 ${FONT * unit}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  for (const zone of zones) paintZone(context, unit, zone);
  const scale = event ? context.canvas.width / event.width : 1;
  const objects = [...(event?.detections ?? [])].sort((one, other) => one.confidence - other.confidence);
  for (const found of objects) paintObject(context, unit, scale, found);
}
