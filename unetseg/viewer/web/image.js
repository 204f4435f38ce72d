// A 2-D image of any size: tiles that are fetched as they come into sight, under masks.

import { query, readArray, shown } from "./reading.js";
import { stroke, trace } from "./outlines.js";
import { drawBar } from "./scalebar.js";
import { Tiles } from "./tiles.js";

// Device pixels per image pixel from which on pixels are shown as squares.
const SQUARES = 3;
const MOST_ZOOM = 64;
// More pieces of outline in a tile would cover it: such objects are filled at this size.
const MOST_PIECES = 30000;

export class ImageView {
  /** told: is called with what lies under the pointer; drawn: when all that is in sight is there. */
  constructor(stage, picture, lines, { told, drawn }) {
    Object.assign(this, { stage, picture, lines, told, drawn });
    this.listening = new AbortController();
    const on = (name, act, options = {}) =>
      stage.addEventListener(name, act, { signal: this.listening.signal, ...options });
    on("wheel", (event) => {
      event.preventDefault();
      this.zoomBy(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)), this.at(event));
    }, { passive: false });
    this.fingers = new Map();
    on("pointerdown", (event) => this.press(event));
    on("pointermove", (event) => this.move(event));
    const lift = (event) => this.fingers.delete(event.pointerId);
    for (const name of ["pointerup", "pointercancel"]) on(name, lift);
    on("dblclick", (event) => this.zoomBy(2, this.at(event)));
    this.watching = new ResizeObserver(() => this.resize());
    this.watching.observe(stage);
  }

  open(base, facts, state, { isSame }) {
    const isKept = isSame && String(this.facts?.shape) === String(facts.shape);
    this.tiles?.forget();
    // Nothing is drawn of the case before, whose labels have other names by now.
    this.facts = null;
    const tiles = new Tiles(base, facts, state, () => this.ask());
    this.tiles = tiles;
    // Which colour each object has is told when it is known; masks are drawn from then on.
    this.tables = facts.layers.map((layer) => layer.has_objects ? undefined : null);
    facts.layers.forEach(async (layer, k) => {
      if (!layer.has_objects) return;
      const path = `${base}/masks/${k}/colours${query(state.moment)}`;
      try {
        const table = await readArray(path, "uint8", tiles.signal);
        if (tiles === this.tiles) this.tables[k] = table;
        this.ask();
      } catch (error) {
        if (error.name !== "AbortError") state.failed(error.message);
      }
    });
    Object.assign(this, { facts, state, fitting: this.fitting || !isKept });
    [this.width, this.height] = facts.shape;
    this.resize();
  }

  close() {
    this.tiles?.forget();
    this.listening.abort();
    this.watching.disconnect();
    this.closed = true;
    for (const canvas of [this.picture, this.lines]) canvas.getContext("2d").reset();
  }

  /** Something other than the place has changed: contrast, channel, labels, opacity, style. */
  update() {
    this.ask();
  }

  // Where things are. Device pixels: canvas = (image - centre) * scale + half the canvas.

  resize() {
    const ratio = window.devicePixelRatio || 1;
    for (const canvas of [this.picture, this.lines]) {
      canvas.width = Math.max(1, Math.round(this.stage.clientWidth * ratio));
      canvas.height = Math.max(1, Math.round(this.stage.clientHeight * ratio));
      // A canvas pixel is a device pixel, even where the stage ends between two.
      canvas.style.width = `${canvas.width / ratio}px`;
      canvas.style.height = `${canvas.height / ratio}px`;
    }
    if (!this.facts) return;
    // Pixels that are not square are drawn as they are.
    this.aspect = this.facts.spacing[1] / this.facts.spacing[0];
    if (this.fitting) this.fit();
    this.ask();
  }

  fit() {
    this.fitting = true;
    this.centre = [this.width / 2, this.height / 2];
    this.scale = Math.min(MOST_ZOOM / 4, this.picture.width / this.width,
      this.picture.height / (this.height * this.aspect));
    this.ask();
  }

  scales() {
    return [this.scale, this.scale * this.aspect];
  }

  frame() {
    const [sx, sy] = this.scales();
    return {
      x: Math.round(this.picture.width / 2 - this.centre[0] * sx),
      y: Math.round(this.picture.height / 2 - this.centre[1] * sy),
      dx: sx, dy: sy,
    };
  }

  at(event) {
    const box = this.stage.getBoundingClientRect();
    const ratio = this.picture.width / box.width;
    return [(event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio];
  }

  zoomBy(factor, [x, y] = [this.picture.width / 2, this.picture.height / 2]) {
    const least = Math.min(1, 64 / Math.max(this.width, this.height));
    const scale = Math.min(MOST_ZOOM, Math.max(least, this.scale * factor));
    // What lies under the pointer stays there.
    const shift = (where, size, per) => (where - size / 2) * (1 / per - 1 / (per * scale / this.scale));
    const [sx, sy] = this.scales();
    this.centre = [this.centre[0] + shift(x, this.picture.width, sx),
      this.centre[1] + shift(y, this.picture.height, sy)];
    this.scale = scale;
    this.fitting = false;
    this.ask();
  }

  panBy(x, y) {
    const [sx, sy] = this.scales();
    this.centre = [Math.min(this.width, Math.max(0, this.centre[0] - x / sx)),
      Math.min(this.height, Math.max(0, this.centre[1] - y / sy))];
    this.fitting = false;
    this.ask();
  }

  press(event) {
    if (event.button > 1) return;
    this.stage.setPointerCapture(event.pointerId);
    this.fingers.set(event.pointerId, this.at(event));
  }

  move(event) {
    const here = this.at(event);
    const before = this.fingers.get(event.pointerId);
    if (before) {
      const others = [...this.fingers.values()].filter((each) => each !== before);
      if (others.length) {
        const far = ([ax, ay], [bx, by]) => Math.max(1, Math.hypot(ax - bx, ay - by));
        this.zoomBy(far(here, others[0]) / far(before, others[0]), others[0]);
      } else this.panBy(here[0] - before[0], here[1] - before[1]);
      this.fingers.set(event.pointerId, here);
    }
    this.tell(here);
  }

  /** What a key does; false if it does nothing here. */
  key(event) {
    const step = event.shiftKey ? 400 : 80;
    const acts = {
      ArrowLeft: () => this.panBy(step, 0), ArrowRight: () => this.panBy(-step, 0),
      ArrowUp: () => this.panBy(0, step), ArrowDown: () => this.panBy(0, -step),
      "+": () => this.zoomBy(1.25), "=": () => this.zoomBy(1.25), "-": () => this.zoomBy(0.8),
      0: () => this.fit(),
    };
    if (!acts[event.key]) return false;
    acts[event.key]();
    this.tell([this.picture.width / 2, this.picture.height / 2]);
    return true;
  }

  tell([canvasX, canvasY]) {
    const frame = this.frame();
    const x = Math.floor((canvasX - frame.x) / frame.dx), y = Math.floor((canvasY - frame.y) / frame.dy);
    if (!(x >= 0 && y >= 0 && x < this.width && y < this.height)) return this.told("");
    const { unit, spacing } = this.facts;
    const places = spacing.map((edge, k) => ([x, y][k] * edge).toFixed(2));
    const place = unit === "px" ? "" : ` (${places.join(", ")} ${unit})`;
    const texts = [`x ${x}, y ${y}${place}`];
    const values = this.tiles.under(-1, x, y);
    if (values) texts.push(values.map(shown).join(", "));
    this.facts.layers.forEach((layer, k) => {
      const label = this.tiles.under(k, x, y)?.[0];
      if (label !== undefined) texts.push(`${layer.name}: ${label ? this.state.nameOf(k, label) : "–"}`);
    });
    this.told(texts.join("   "));
  }

  // Drawing

  ask() {
    if (this.asked || !this.facts || this.closed) return;
    this.asked = requestAnimationFrame(() => {
      this.asked = 0;
      if (!this.closed) this.draw();
    });
  }

  draw() {
    const context = this.picture.getContext("2d"), over = this.lines.getContext("2d");
    const { width, height } = this.picture;
    context.clearRect(0, 0, width, height);
    over.clearRect(0, 0, width, height);
    const frame = this.frame();
    const level = Math.max(0, Math.min(this.facts.levels - 1,
      Math.floor(Math.log2(1 / Math.max(frame.dx, frame.dy)))));
    this.tiles.begin();
    const box = this.inSight(frame, level);
    let missing = this.drawLayer(context, -1, level, box, frame, (tile, at) => {
      context.imageSmoothingEnabled = at.dx < SQUARES;
      this.place(context, this.coloured(tile), at);
    });
    this.facts.layers.forEach((_, layer) => {
      if (!this.state.isShown(layer)) return;
      if (this.tables[layer] === undefined) {
        missing++;
        return;
      }
      over.imageSmoothingEnabled = false;
      missing += this.drawLayer(over, layer, level, box, frame, (tile, at) => {
        const pieces = this.state.style === "outlines" && this.pieces(tile);
        if (pieces) stroke(over, pieces, at, (n) => this.state.css(n), layer);
        else {
          over.globalAlpha = this.state.opacity;
          this.place(over, this.filled(tile), at);
          over.globalAlpha = 1;
        }
      });
    });
    const { unit, spacing } = this.facts;
    drawBar(over, frame.dx / spacing[0], unit, [0, 0, width, height]);
    this.tiles.fetchWaiting();
    if (!missing) this.drawn();
  }

  inSight(frame, level) {
    const edge = this.facts.tile << level;
    const range = (offset, per, canvas, whole) => {
      const first = Math.max(0, Math.floor(-offset / per / edge));
      return [first, Math.min(Math.ceil(whole / edge), Math.ceil((canvas - offset) / per / edge))];
    };
    return [range(frame.y, frame.dy, this.picture.height, this.height),
      range(frame.x, frame.dx, this.picture.width, this.width)];
  }

  /** Draws the tiles of a layer, coarser ones in the place of those that are not there yet. */
  drawLayer(context, layer, level, [rows, columns], frame, draw) {
    let missing = 0;
    for (let row = rows[0]; row < rows[1]; row++) {
      for (let column = columns[0]; column < columns[1]; column++) {
        const tile = this.tiles.get(layer, level, row, column);
        if (tile.values) {
          draw(tile, this.where(tile, frame));
          continue;
        }
        missing++;
        const coarse = this.tiles.coarser(layer, level, row, column);
        if (!coarse) continue;
        context.save();
        context.beginPath();
        const at = this.where({ level, row, column }, frame);
        context.rect(at.x, at.y, this.facts.tile * at.dx, this.facts.tile * at.dy);
        context.clip();
        draw(coarse, this.where(coarse, frame));
        context.restore();
      }
    }
    return missing;
  }

  /** Where a tile's corner lies on the canvas, and how large its pixels are. */
  where({ level, row, column }, frame) {
    const edge = this.facts.tile << level;
    return {
      x: frame.x + column * edge * frame.dx, y: frame.y + row * edge * frame.dy,
      dx: frame.dx * (1 << level), dy: frame.dy * (1 << level),
    };
  }

  place(context, bitmap, at) {
    // On whole device pixels, or seams would be seen between tiles.
    const [x0, y0] = [Math.round(at.x), Math.round(at.y)];
    const x1 = Math.round(at.x + bitmap.width * at.dx), y1 = Math.round(at.y + bitmap.height * at.dy);
    context.drawImage(bitmap, x0, y0, x1 - x0, y1 - y0);
  }

  bitmap(tile, stamp, paint) {
    if (tile.stamp !== stamp) {
      tile.canvas ??= new OffscreenCanvas(tile.width, tile.height);
      const context = tile.canvas.getContext("2d");
      const data = context.createImageData(tile.width, tile.height);
      paint(new Uint32Array(data.data.buffer));
      context.putImageData(data, 0, 0);
      tile.stamp = stamp;
    }
    return tile.canvas;
  }

  coloured(tile) {
    const ranges = this.state.ranges();
    return this.bitmap(tile, JSON.stringify(ranges), (out) => {
      const area = tile.stride * tile.rows;
      const scaled = (k, at) => {
        const [low, high] = ranges[k];
        const value = (tile.values[k * area + at] - low) / (high - low) * 255;
        return value <= 0 ? 0 : value >= 255 ? 255 : value | 0;
      };
      for (let at = 0; at < out.length; at++) {
        const red = scaled(0, at);
        const [green, blue] = tile.channels === 3 ? [scaled(1, at), scaled(2, at)] : [red, red];
        out[at] = 0xff000000 | blue << 16 | green << 8 | red;
      }
    });
  }

  filled(tile) {
    return this.bitmap(tile, this.state.labelsStamp(), (out) => {
      // Neighbours mostly have the same label.
      let last = 0, word = 0;
      for (let y = 0, at = 0; y < tile.height; y++) {
        for (let x = 0; x < tile.width; x++, at++) {
          const label = tile.values[y * tile.stride + x];
          if (label !== last) {
            const table = this.tables[tile.layer];
            const colour = label ? this.state.colourOf(tile.layer, label, table) : -1;
            [last, word] = [label, colour < 0 ? 0 : this.state.word(colour)];
          }
          out[at] = word;
        }
      }
    });
  }

  pieces(tile) {
    const stamp = this.state.labelsStamp();
    if (tile.traced !== stamp) {
      const grid = { width: tile.width, height: tile.height, stride: tile.stride, rows: tile.rows,
        atLeft: tile.column === 0, atTop: tile.row === 0 };
      tile.found = trace(tile.values, grid,
        (label) => this.state.colourOf(tile.layer, label, this.tables[tile.layer]));
      tile.traced = stamp;
    }
    let count = 0;
    for (const list of tile.found.values()) count += list.length / 4;
    return count > MOST_PIECES ? null : tile.found;
  }
}
