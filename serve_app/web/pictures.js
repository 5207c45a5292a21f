// Pictures of many streams over few connections. A browser opens six to a server, and endless video would hold one for
// each stream: so pictures are asked for one by one, in turns, two at a time.

const AT_ONCE = 2;
/** From the beginning of one picture to the next, on each of the two: 25 a second in all. */
const PAUSE_MS = 80;
/** No stream is asked more often, however few there are. */
const EACH_MS = 150;
const IDLE_MS = 100;
const AGAIN_MS = 2000;
/** The slowest that quotas make it. */
const SLOWEST_MS = 5000;

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Shows pictures of tiles in turns. A tile has `wanted`, and `refresh(signal)`, which raises a Problem. */
export class Turns {
  constructor() {
    this.due = new Map();
    this.busy = new Set();
    this.left = new AbortController();
    this.pauseMs = PAUSE_MS;
    for (let lane = 0; lane < AT_ONCE; lane += 1) this.run();
  }

  add(tile) {
    this.due.set(tile, 0);
  }

  remove(tile) {
    this.due.delete(tile);
  }

  stop() {
    this.left.abort();
  }

  /** Whose turn it is: who has waited longest. */
  next() {
    let chosen = null;
    if (document.hidden) return chosen;
    for (const [tile, due] of this.due) {
      if (!tile.wanted || this.busy.has(tile) || due > performance.now()) continue;
      if (chosen === null || due < this.due.get(chosen)) chosen = tile;
    }
    return chosen;
  }

  async run() {
    const { signal } = this.left;
    while (!signal.aborted) {
      const tile = this.next();
      if (tile === null) {
        await wait(IDLE_MS);
        continue;
      }
      const began = performance.now();
      this.busy.add(tile);
      const came = await tile.refresh(signal).then(() => true, (error) => this.failed(error));
      if (came) this.pauseMs = Math.max(PAUSE_MS, 0.9 * this.pauseMs);
      this.busy.delete(tile);
      if (this.due.has(tile)) this.due.set(tile, began + (came ? EACH_MS : AGAIN_MS));
      await wait(Math.max(0, began + this.pauseMs - performance.now()));
    }
  }

  failed(error) {
    if (error.code === "quota_exceeded") this.pauseMs = Math.min(SLOWEST_MS, 2 * this.pauseMs);
    return false;
  }
}
