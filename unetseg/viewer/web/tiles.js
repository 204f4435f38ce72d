// The tiles of an image and its masks that are at hand, and those that are being fetched.

import { query, readArray } from "./reading.js";

const MOST_TILES = 400;
const FETCHES = 6;

export class Tiles {
  /** came: is called when a tile is there */
  constructor(base, facts, state, came) {
    Object.assign(this, { base, facts, state, came, running: 0 });
    this.kept = new Map();
    this.waiting = [];
    this.fetching = new AbortController();
    this.signal = this.fetching.signal;
  }

  forget() {
    this.fetching.abort();
    this.kept.clear();
    this.waiting = [];
  }

  name(layer, level, row, column) {
    return `${layer < 0 ? `i${this.state.channel}` : layer}/${level}/${row}/${column}`;
  }

  /** A drawing begins: of the tiles that nobody has fetched yet, only those it asks for will be. */
  begin() {
    for (const tile of this.waiting) this.kept.delete(tile.name);
    this.waiting = [];
  }

  /** The tile, with or without its values; layer -1 is the image. */
  get(layer, level, row, column) {
    const name = this.name(layer, level, row, column);
    let tile = this.kept.get(name);
    if (tile) this.kept.delete(name);
    else {
      tile = { name, layer, level, row, column };
      this.waiting.push(tile);
    }
    // The one last used is the last to go.
    this.kept.set(name, tile);
    return tile;
  }

  /** A coarser tile that covers this one, if one is at hand. */
  coarser(layer, level, row, column) {
    for (let up = 1; level + up < this.facts.levels; up++) {
      const tile = this.kept.get(this.name(layer, level + up, row >> up, column >> up));
      if (tile?.values) return tile;
    }
    return null;
  }

  /** The values at a pixel, of the finest tile that is at hand. */
  under(layer, x, y) {
    const edge = this.facts.tile;
    for (let level = 0; level < this.facts.levels; level++) {
      const [column, row] = [x, y].map((at) => Math.floor(at / (edge << level)));
      const tile = this.kept.get(this.name(layer, level, row, column));
      if (!tile?.values) continue;
      const place = ((y >> level) % edge) * tile.stride + ((x >> level) % edge);
      const area = tile.stride * tile.rows;
      return Array.from({ length: tile.channels }, (_, k) => tile.values[k * area + place]);
    }
    return null;
  }

  fetchWaiting() {
    while (this.running < FETCHES && this.waiting.length) {
      this.running++;
      this.fetch(this.waiting.shift()).catch((error) => {
        if (error.name !== "AbortError") this.state.failed(error.message);
      }).finally(() => {
        this.running--;
        this.came();
      });
    }
    for (const name of this.kept.keys()) {
      if (this.kept.size <= MOST_TILES) break;
      this.kept.delete(name);
    }
  }

  async fetch(tile) {
    const { layer, level, row, column } = tile;
    const { moment, channel } = this.state;
    const place = `${level}/${row}/${column}`;
    const isImage = layer < 0;
    const path = isImage
      ? `tiles/${place}${query(moment, channel === "colours" ? undefined : channel)}`
      : `masks/${layer}/tiles/${place}${query(moment)}`;
    const type = isImage ? this.facts.dtype : "int32";
    const values = await readArray(`${this.base}/${path}`, type, this.signal);
    const edge = this.facts.tile;
    const sizes = (whole, index) => {
      const left = Math.ceil(whole / (1 << level)) - index * edge;
      // A mask's tile holds a column and a row of its neighbours too.
      return [Math.min(edge, left), Math.min(isImage ? edge : edge + 1, left)];
    };
    const [width, height] = this.facts.shape;
    [tile.width, tile.stride] = sizes(width, column);
    [tile.height, tile.rows] = sizes(height, row);
    tile.channels = values.length / (tile.stride * tile.rows);
    tile.values = values;
  }
}
