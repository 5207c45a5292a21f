// The points of a zone as numbers, for those who can't or won't drag them.

import { make } from "./dom.js";
import { numberInput } from "./fields.js";
import { within } from "./shapes.js";

const AXES = ["from the left", "from the top"];

export class Coordinates {
  /** `changed` is called after a point of `zone` was. */
  constructor(zone, changed) {
    this.zone = zone;
    this.inputs = [];
    this.list = make("ol", { class: "plain points", input: (event) => event.stopPropagation() });
    this.element = make("details", {}, make("summary", {}, "Points, in % from the left and the top"), this.list);
    this.changed = changed;
    this.show();
  }

  /** Follow points that were moved elsewhere. */
  show() {
    const { points } = this.zone;
    if (this.inputs.length !== points.length) {
      this.inputs = points.map((_, place) => AXES.map((words, axis) => numberInput({
        min: "0", max: "100", step: "0.1", "aria-label": `Point ${place + 1}, % ${words}`,
        input: (event) => this.take(place, axis, event.target),
      })));
      this.list.replaceChildren(...this.inputs.map((pair) => make("li", {}, ...pair)));
    }
    points.forEach((point, place) => point.forEach((part, axis) => {
      const input = this.inputs[place][axis];
      if (input !== document.activeElement) input.value = (100 * part).toFixed(1);
    }));
  }

  take(place, axis, input) {
    if (input.value === "" || !Number.isFinite(input.valueAsNumber)) return;
    const moved = [...this.zone.points[place]];
    moved[axis] = within(input.valueAsNumber / 100);
    this.zone.points = this.zone.points.map((point, number) => (number === place ? moved : point));
    this.changed();
  }
}
