// Geometry of zones; no elements here. Points are [x, y] as parts of the picture's width and height from its top left.

export const MAX_POINTS = 32;
const FINE = 1e4;

export const within = (value) => Math.min(1, Math.max(0, Math.round(value * FINE) / FINE));

export const moved = ([x, y], dx, dy) => [within(x + dx), within(y + dy)];

/** All points moved by as much as keeps each inside the picture. */
export function movedWhole(points, dx, dy) {
  const kept = (values, by) => Math.min(1 - Math.max(...values), Math.max(-Math.min(...values), by));
  const [right, down] = [kept(points.map(([x]) => x), dx), kept(points.map(([, y]) => y), dy)];
  return points.map((point) => moved(point, right, down));
}

export const middle = (points) => [0, 1].map((axis) => points.reduce((total, point) => total + point[axis], 0) / points.length);

/** From a line's middle to its right side, as it is seen from the first point to the second; all in pixels. */
export function arrow([[x1, y1], [x2, y2]], length) {
  const [alongX, alongY] = [x2 - x1, y2 - y1];
  const whole = Math.max(1, Math.hypot(alongX, alongY));
  const [x, y] = [(x1 + x2) / 2, (y1 + y2) / 2];
  return [[x, y], [x - (alongY / whole) * length, y + (alongX / whole) * length]];
}

/** The polygon with a further point in the middle of its longest edge, and that point's place. */
export function divided(points) {
  const lengths = points.map((point, place) => distance(point, points[(place + 1) % points.length]));
  const place = lengths.indexOf(Math.max(...lengths)) + 1;
  return [insertedAt(points, place), place];
}

/** With a further point between the one before `place` and the one there. */
export function insertedAt(points, place) {
  const between = middle([points[place - 1], points[place % points.length]]).map(within);
  return [...points.slice(0, place), between, ...points.slice(place)];
}

export const distance = ([x1, y1], [x2, y2]) => Math.hypot(x2 - x1, y2 - y1);

/** A zone to begin with, where none is drawn by mouse: in the middle of the picture. */
export const START = {
  line: [[0.5, 0.75], [0.5, 0.25]],
  polygon: [[0.3, 0.3], [0.7, 0.3], [0.7, 0.7], [0.3, 0.7]],
};

/** “line”, or the first of “line-2”, “line-3”, ... that is free. */
export function freeName(word, taken) {
  for (let number = 1; ; number += 1) {
    const name = number === 1 ? word : `${word}-${number}`;
    if (!taken.includes(name)) return name;
  }
}
