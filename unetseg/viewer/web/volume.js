// A volume in NiiVue, with the outlines of masks drawn over its slices.

import { parseNifti, query, readArray, readBuffer, shown, withBytes } from "./reading.js";
import { stroke, trace } from "./outlines.js";
import { drawBar } from "./scalebar.js";

// Numbers of NiiVue's own: what a layout is called there.
const LAYOUTS = { all: 3, axial: 0, coronal: 1, sagittal: 2, render: 4 };
// Which axes of space run along the columns and rows of a slice, and which through it.
const PLANES = [[0, 1, 2], [0, 2, 1], [1, 2, 0]];
const MOST_CODES = 255;

let library;

/** Whether a volume has a left and a right; a stack of pictures has rows and columns. */
export const isOfBody = (facts) => facts.y_sign > 0 && facts.unit === "mm";

function loadLibrary() {
  library ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = "niivue.js";
    script.onload = () => resolve(window.niivue);
    script.onerror = () => reject(new Error("the viewer for volumes cannot be loaded"));
    document.head.append(script);
  });
  return library;
}

export class VolumeView {
  constructor(stage, picture, lines, { told, drawn, windowed }) {
    Object.assign(this, { stage, picture, lines, told, drawn, windowed });
  }

  async open(base, facts, state, { isSame }) {
    // Nothing is drawn over the case before, whose labels have other names by now.
    Object.assign(this, { base, facts, state, scan: null, masks: null });
    const opening = (this.opening = {});
    const [nv, scan, ...masks] = await Promise.all([
      this.viewer(), this.readScan(),
      ...facts.layers.map((_, layer) => this.readMask(layer)),
    ]);
    // The next case may have been asked for meanwhile.
    if (opening !== this.opening || this.closed) return;
    Object.assign(this, { scan, masks });
    state.setRange([scan.low, scan.high]);
    nv.volumes = [scan.volume, ...masks.map((mask) => mask.volume)];
    nv.back = scan.volume;
    nv.overlays = nv.volumes.slice(1);
    if (!isSame) {
      nv.scene.crosshairPos = this.centre();
      nv.scene.pan2Dxyzmm = [0, 0, 0, 1];
    }
    this.stamp = null;
    this.update();
    this.tell();
  }

  /** NiiVue on the canvas, made once. */
  viewer() {
    this.making ??= this.made();
    return this.making;
  }

  async made() {
    const { Niivue } = await loadLibrary();
    const nv = new Niivue({
      backColor: [0.04, 0.045, 0.05, 1], fontColor: [0.95, 0.95, 0.95, 1], fontMinPx: 13,
      crosshairColor: [0.9, 0.9, 0.9, 0.7], crosshairWidth: 0.2, crosshairWidthUnit: "percent",
      crosshairGap: 3, show3Dcrosshair: true, multiplanarLayout: 2, multiplanarShowRender: 1,
      dragAndDropEnabled: false, isColorbar: false, isRadiologicalConvention: false,
      loadingText: "", logLevel: "error", scrollRequiresFocus: false,
    });
    await nv.attachToCanvas(this.picture, false);
    nv.onLocationChange = () => this.tell();
    nv.onIntensityChange = (volume) => this.windowed([volume.cal_min, volume.cal_max]);
    // Whatever makes it draw, the outlines follow.
    const draw = nv.drawScene.bind(nv);
    nv.drawScene = (...args) => {
      const found = draw(...args);
      this.drawLines();
      return found;
    };
    this.nv = nv;
    return nv;
  }

  async readScan() {
    const { moment, channel } = this.state;
    const [buffer, { NVImage }] = await Promise.all([
      readBuffer(`${this.base}/scan.nii${query(moment, channel)}`), loadLibrary()]);
    const volume = await NVImage.loadFromUrl({ url: buffer, name: "scan.nii", colormap: "gray" });
    return { ...parseNifti(buffer), volume };
  }

  async readMask(layer) {
    const path = `${this.base}/masks/${layer}`;
    const facts = this.facts.layers[layer];
    const [buffer, table, { NVImage }] = await Promise.all([
      readBuffer(`${path}.nii${query(this.state.moment)}`),
      facts.has_objects ? readArray(`${path}/colours${query(this.state.moment)}`, "uint8") : null,
      loadLibrary()]);
    const mask = { ...parseNifti(buffer), table };
    this.code(mask, layer);
    mask.volume = await NVImage.loadFromUrl({
      url: withBytes(buffer, mask.codes), name: `mask${layer}.nii`, opacity: this.state.opacity });
    return mask;
  }

  /** Numbers from 1 for the colours of a mask, in bytes: what NiiVue's tables of colours hold. */
  code(mask, layer) {
    const numbers = new Map([[0, 0]]);
    mask.labels = [0];
    mask.codes = new Uint8Array(mask.voxels.length);
    const isCoded = this.facts.layers[layer].has_objects;
    for (let k = 0; k < mask.codes.length; k++) {
      const label = mask.voxels[k];
      if (!label) continue;
      let number = numbers.get(label);
      if (number === undefined) {
        // Of objects, all of one colour share a number.
        const colour = isCoded ? this.state.colourOf(layer, label, mask.table) : null;
        const same = isCoded ? mask.labels.findIndex((other, n) => n
          && this.state.colourOf(layer, other, mask.table) === colour) : -1;
        number = same > 0 ? same : mask.labels.push(label) - 1;
        if (number > MOST_CODES) number = 1 + (number % MOST_CODES);
        numbers.set(label, number);
      }
      mask.codes[k] = number;
    }
  }

  /** Where the crosshair begins: in the slice with most of a mask, in the mask; else the middle. */
  centre() {
    const [nx, ny, nz] = this.scan.shape;
    const mask = this.masks.find(({ codes }) => codes.includes(1));
    if (!mask) return [0.5, 0.5, 0.5];
    // Which of some parts of the mask, one behind the other, has most of it.
    const fullest = (length, size, start) => {
      const counts = new Uint32Array(length);
      for (let part = 0, at = start; part < length; part++) {
        for (const end = at + size; at < end; at++) if (mask.codes[at]) counts[part]++;
      }
      return counts.indexOf(Math.max(...counts));
    };
    const z = fullest(nz, nx * ny, 0);
    const y = fullest(ny, nx, z * nx * ny);
    const row = mask.codes.subarray((z * ny + y) * nx, (z * ny + y + 1) * nx);
    const there = [...row.keys()].filter((x) => row[x]);
    return this.fraction([there[there.length >> 1], y, z]);
  }

  // Voxels of the file and those of NiiVue, whose axes point right, front and up.

  /** Index of the voxel at a place in [0, 1] along right, front and up. */
  index(fraction) {
    const { img2RASstart: start, img2RASstep: step, dimsRAS } = this.scan.volume;
    return [0, 1, 2].reduce((sum, axis) => {
      const at = Math.min(dimsRAS[axis + 1] - 1, Math.max(0, Math.floor(fraction[axis] * dimsRAS[axis + 1])));
      return sum + start[axis] + at * step[axis];
    }, 0);
  }

  fraction(voxel) {
    const { img2RASstart: start, img2RASstep: step, dimsRAS } = this.scan.volume;
    const [nx, ny] = this.scan.shape;
    const sizes = [1, nx, nx * ny];
    return [0, 1, 2].map((axis) => {
      const own = sizes.indexOf(Math.abs(step[axis]));
      return (Math.abs(voxel[own] * sizes[own] - start[axis]) / sizes[own] + 0.5) / dimsRAS[axis + 1];
    });
  }

  tell() {
    if (!this.scan || !this.nv?.volumes.length) return;
    const index = this.index(this.nv.scene.crosshairPos);
    const [nx, ny] = this.scan.shape;
    const voxel = [index % nx, Math.floor(index / nx) % ny, Math.floor(index / (nx * ny))];
    const place = this.scan.affine.map((row, axis) => {
      const sum = row[3] + voxel.reduce((total, at, k) => total + at * row[k], 0);
      return (axis === 1 ? sum * this.facts.y_sign : sum).toFixed(1).replace("-0.0", "0.0");
    });
    const texts = [`${place.join(", ")} ${this.facts.unit}`, `voxel ${voxel.join(", ")}`,
      `value ${shown(this.scan.voxels[index])}`];
    this.masks.forEach((mask, layer) => {
      const label = mask.voxels[index];
      texts.push(`${this.facts.layers[layer].name}: ${label ? this.state.nameOf(layer, label) : "–"}`);
    });
    this.told(texts.join("   "));
  }

  /** Contrast, opacity, labels, layout or style have changed. */
  update() {
    const { nv, state, scan } = this;
    if (!scan) return;
    nv.opts.sliceType = LAYOUTS[state.layout];
    nv.opts.isOrientationTextVisible = isOfBody(this.facts);
    [[scan.volume.cal_min, scan.volume.cal_max]] = [state.ranges()[0]];
    // In slices outlines are drawn by this page; the rendering keeps its surfaces.
    nv.overlayAlphaShader = state.style === "outlines" ? 0 : 1;
    const stamp = state.labelsStamp();
    this.masks.forEach((mask, layer) => {
      mask.volume.opacity = state.isShown(layer) ? state.opacity : 0;
      if (stamp !== this.stamp) mask.volume.setColormapLabel(this.lookup(mask, layer));
    });
    this.stamp = stamp;
    nv.updateGLVolume();
    this.drawn();
  }

  lookup(mask, layer) {
    const numbers = mask.labels.slice(0, MOST_CODES + 1).map(
      (label) => label ? this.state.colourOf(layer, label, mask.table) : -1);
    // NiiVue takes a table of more than one colour.
    if (numbers.length < 3) numbers.push(-1, -1);
    const part = (shift) => numbers.map((n) => n < 0 ? 0 : (n >> shift) & 255);
    return {
      R: part(16), G: part(8), B: part(0), A: numbers.map((n) => n < 0 ? 0 : 255),
      I: numbers.map((_, k) => k), labels: numbers.map(String),
    };
  }

  drawLines() {
    const { nv, lines, state } = this;
    if (lines.width !== this.picture.width || lines.height !== this.picture.height) {
      [lines.width, lines.height] = [this.picture.width, this.picture.height];
    }
    const context = lines.getContext("2d");
    context.clearRect(0, 0, lines.width, lines.height);
    if (!this.scan) return;
    nv.screenSlices.forEach((slice, place) => {
      if (slice.axCorSag > 2) return;
      const frame = this.frameOf(slice, place);
      const edge = this.scan.volume.pixDimsRAS[PLANES[slice.axCorSag][0] + 1];
      drawBar(context, Math.abs(frame.dx) / edge, this.facts.unit, frame.box);
      if (!this.masks || state.style !== "outlines") return;
      context.save();
      context.beginPath();
      context.rect(...frame.box);
      context.clip();
      this.masks.forEach((mask, layer) => {
        if (!state.isShown(layer)) return;
        const pieces = this.pieces(mask, layer, slice.axCorSag, frame.at);
        stroke(context, pieces, frame, (n) => state.css(n), layer);
      });
      context.restore();
    });
  }

  /** Where the first voxel's corner lies in a slice on the canvas, and how large voxels are. */
  frameOf(slice, place) {
    const [left, top, signed, height] = slice.leftTopWidthHeight;
    const width = Math.abs(signed);
    const start = signed < 0 ? left + signed : left;
    const [across, along, through] = PLANES[slice.axCorSag];
    const at = (x, y) => this.nv.screenXY2TextureFrac(start + x * width, top + y * height, place, false);
    const [a, b, c] = [at(0.25, 0.25), at(0.75, 0.25), at(0.25, 0.75)];
    const sizes = this.scan.volume.dimsRAS.slice(1, 4);
    const dx = width / 2 / ((b[across] - a[across]) * sizes[across]);
    const dy = height / 2 / ((c[along] - a[along]) * sizes[along]);
    return {
      x: start + width / 4 - a[across] * sizes[across] * dx, dx,
      y: top + height / 4 - a[along] * sizes[along] * dy, dy,
      at: Math.min(sizes[through] - 1, Math.max(0, Math.floor(a[through] * sizes[through]))),
      box: [start, top, width, height],
    };
  }

  pieces(mask, layer, plane, at) {
    mask.traced ??= [];
    const stamp = this.state.labelsStamp();
    const before = mask.traced[plane];
    if (before?.at === at && before.stamp === stamp) return before.pieces;
    const { img2RASstart: start, img2RASstep: step, dimsRAS } = this.scan.volume;
    const [across, along, through] = PLANES[plane];
    const [width, height] = [dimsRAS[across + 1], dimsRAS[along + 1]];
    const values = new Int32Array(width * height);
    const corner = start[0] + start[1] + start[2] + at * step[through];
    for (let v = 0, k = 0; v < height; v++) {
      for (let u = 0; u < width; u++, k++) {
        values[k] = mask.voxels[corner + u * step[across] + v * step[along]];
      }
    }
    const grid = { width, height, stride: width, rows: height, atLeft: true, atTop: true };
    const pieces = trace(values, grid, (label) => this.state.colourOf(layer, label, mask.table));
    mask.traced[plane] = { at, stamp, pieces };
    return pieces;
  }

  /** What a key does; false if it does nothing here. */
  key(event) {
    const step = event.shiftKey ? 5 : 1;
    const moves = {
      ArrowLeft: [-step, 0, 0], ArrowRight: [step, 0, 0], ArrowDown: [0, -step, 0],
      ArrowUp: [0, step, 0], PageDown: [0, 0, -step], PageUp: [0, 0, step],
    };
    if (moves[event.key]) this.nv?.moveCrosshairInVox(...moves[event.key]);
    else if ("+=-0".includes(event.key)) this.zoomBy({ "-": 0.8, 0: 0 }[event.key] ?? 1.25);
    else return false;
    this.tell();
    return true;
  }

  zoomBy(factor) {
    const pan = this.nv.scene.pan2Dxyzmm;
    const zoom = factor ? Math.min(20, Math.max(0.5, pan[3] * factor)) : 1;
    if (!factor) this.nv.setPan2Dxyzmm([0, 0, 0, 1]);
    else {
      const mm = this.nv.frac2mm(this.nv.scene.crosshairPos);
      const shift = zoom - pan[3];
      this.nv.setPan2Dxyzmm([...[0, 1, 2].map((k) => pan[k] - shift * mm[k]), zoom]);
    }
  }

  close() {
    this.closed = true;
    this.lines.getContext("2d").reset();
    this.nv?.cleanup?.();
  }
}
