// The page: which case is shown, what of it, and what keys do.

import { ImageView } from "./image.js";
import { fillPanel, make } from "./panel.js";
import { readJson, query } from "./reading.js";
import { VolumeView } from "./volume.js";

const BLINK_MS = 700;
const get = (id) => document.getElementById(id);
const root = document.documentElement;
const stage = get("stage");

// Asked for at once, for the page is soon done with what it is about.
let firstFacts = readJson("cases/0/facts.json");
firstFacts.catch(() => {});

let exhibit, current = 0, facts, view, kind, blinking;

/** What of a case is shown. Colours are numbers: red, green and blue, a byte each. */
const state = {
  moment: {}, channel: 0, opacity: 0.45, style: "", layout: "all",
  off: new Set(), hidden: new Set(), isBlinking: false, turn: 0,
  contrast: { low: 0, high: 1, least: 0, most: 1 },

  isShown(layer) {
    if (this.isBlinking) return this.turn % facts.layers.length === layer;
    return !this.off.has(layer);
  },
  colourOf(layer, label, table) {
    const { has_objects: hasObjects, labels } = facts.layers[layer];
    if (hasObjects) {
      const place = table?.length ? table[label] - 1 : (label - 1) % facts.palette.length;
      return place < 0 || place === undefined ? -1 : packed(facts.palette[place]);
    }
    if (this.hidden.has(label)) return -1;
    const found = labels.find((each) => each.value === label);
    return found ? packed(found.colour) : -1;
  },
  nameOf(layer, label) {
    const found = facts.layers[layer].labels.find((each) => each.value === label);
    if (facts.layers[layer].has_objects) return `object ${label}`;
    return found ? `${found.name} (${label})` : String(label);
  },
  css: (colour) => `rgb(${colour >> 16}, ${(colour >> 8) & 255}, ${colour & 255})`,
  word: (colour) => (0xff000000 | (colour & 255) << 16 | colour & 0xff00 | colour >> 16) >>> 0,
  labelsStamp() {
    return [...this.hidden].join();
  },
  /** From black to white, for each channel that is shown. */
  ranges() {
    const { low, high } = this.contrast;
    const range = [low, Math.max(high, low + (this.contrast.most - this.contrast.least) / 1e4)];
    return [range, range, range];
  },
  setRange([low, high]) {
    const wide = high - low || 1;
    const isBytes = facts.dtype === "uint8";
    this.contrast = {
      low, high, of: [low, high],
      least: isBytes ? Math.min(0, low) : low - wide * 0.5,
      most: isBytes ? Math.max(255, high) : high + wide,
    };
    refill();
  },
  failed(text) {
    get("message").textContent = text;
    root.dataset.failed = text;
  },
};

const packed = ([red, green, blue]) => red << 16 | green << 8 | blue;
const say = (text) => { get("said").textContent = text; };
const refill = () => fillPanel(get("panel"), facts, state, act);
const update = () => { if (view && facts) view.update(); };

const act = {
  layer(k, isOn) {
    state.off[isOn ? "delete" : "add"](k);
    stopBlinking();
    update();
  },
  label(value, isOn) {
    state.hidden[isOn ? "delete" : "add"](value);
    update();
  },
  labels(isOn) {
    const values = facts.layers.flatMap(({ labels }) => labels.map((each) => each.value));
    state.hidden = new Set(isOn ? [] : values);
    refill();
    update();
  },
  opacity(value) {
    state.opacity = value;
    update();
  },
  style() {
    state.style = state.style === "outlines" ? "filled" : "outlines";
    pressed("style", state.style === "outlines");
    say(state.style === "outlines" ? "Masks as outlines" : "Masks filled");
    update();
  },
  blink() {
    if (state.isBlinking) stopBlinking();
    else if (facts.layers.length > 1) {
      state.isBlinking = true;
      const next = () => {
        state.turn++;
        get("message").textContent = facts.layers[state.turn % facts.layers.length].name;
        update();
      };
      next();
      blinking = setInterval(next, BLINK_MS);
      say("Masks blink");
    }
    pressed("blink", state.isBlinking);
    update();
  },
  contrast(which, value) {
    state.contrast[which] = value;
    update();
  },
  resetContrast() {
    state.setRange(state.contrast.of);
    update();
  },
  channel(value) {
    state.channel = value;
    if (facts.kind === "volume") reopen({ isSame: true });
    else {
      usualRange();
      update();
    }
  },
  layout(name) {
    state.layout = name;
    refill();
    say(`Layout: ${name}`);
    update();
  },
  moment(moment) {
    state.moment = moment;
    reopen({ isSame: true });
  },
  key(key) {
    view?.key({ key });
  },
};

function pressed(id, isPressed) {
  get(id)?.setAttribute("aria-pressed", String(isPressed));
}

function stopBlinking() {
  clearInterval(blinking);
  if (state.isBlinking) get("message").textContent = "";
  state.isBlinking = false;
  pressed("blink", false);
}

/** The contrast of the channel that is shown; of volumes, their NIfTI's header says it. */
function usualRange() {
  const channel = facts.channels[state.channel === "colours" ? 0 : state.channel];
  state.setRange([channel.low, channel.high]);
}

// Cases

const base = () => `cases/${current}`;

async function open(index) {
  current = index;
  state.moment = {};
  for (const button of document.querySelectorAll("#case-list button")) {
    if (+button.value === index) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  }
  document.querySelector("#case-list [aria-current]")?.scrollIntoView({ block: "nearest" });
  await reopen();
}

let opening = 0;

/** isSame: it is the same case, at another time or in another channel: the place is kept. */
async function reopen({ isSame = false } = {}) {
  const mine = ++opening;
  delete root.dataset.drawn;
  delete root.dataset.failed;
  stopBlinking();
  get("message").textContent = "";
  const patience = setTimeout(() => { get("message").textContent = "Reading…"; }, 400);
  try {
    const found = await momentFacts();
    if (mine !== opening) return;
    const isOther = !facts || found.kind !== facts.kind;
    facts = found;
    if (isOther || kind !== facts.kind) newView();
    if (!facts.channels[state.channel] && state.channel !== "colours") state.channel = 0;
    // Two fills over one another are hard to tell apart.
    state.style ||= facts.layers.length > 1 ? "outlines" : "filled";
    const inColours = facts.is_picture && kind === "image";
    if (isOther && inColours) state.channel = "colours";
    if (state.channel === "colours" && !inColours) state.channel = 0;
    describe();
    if (facts.kind === "image") usualRange();
    await view.open(base(), facts, state, { isSame: isSame && !isOther });
    if (mine !== opening) return;
    refill();
    clearTimeout(patience);
    get("message").textContent = "";
  } catch (error) {
    if (mine === opening && error.name !== "AbortError") state.failed(error.message);
  } finally {
    clearTimeout(patience);
  }
}

/** Of films and files of several scenes, the first moment is asked for where none is chosen. */
async function momentFacts() {
  const asked = firstFacts ?? readJson(`${base()}/facts.json${query(state.moment)}`);
  firstFacts = null;
  const found = await asked;
  if (found.times > 1) state.moment.time ??= 0;
  if (found.scenes.length) state.moment.scene ??= 0;
  return found;
}

function newView() {
  view?.close();
  kind = facts.kind;
  // A canvas keeps the kind of drawing that it began with.
  const fresh = get("picture").cloneNode();
  get("picture").replaceWith(fresh);
  const View = kind === "volume" ? VolumeView : ImageView;
  view = new View(stage, fresh, get("lines"), {
    told: (text) => { get("readout").textContent = text || "\u00a0"; },
    drawn: () => requestAnimationFrame(() => {
      root.dataset.drawn ??= String(Math.round(performance.timeOrigin + performance.now()));
    }),
    windowed: ([low, high]) => {
      Object.assign(state.contrast, { low, high });
      refill();
    },
  });
}

function describe() {
  const { shape, spacing, unit, times, scenes } = facts;
  const size = shape.join(" × ") + (facts.kind === "volume" ? " voxels" : " pixels");
  const edges = unit === "px" ? "" : `, ${spacing.map((edge) => +edge.toPrecision(4)).join(" × ")} ${unit}`;
  const more = (times > 1 ? `, ${times} time points` : "")
    + (scenes.length ? `, ${scenes.length} scenes` : "");
  get("title").textContent = exhibit.cases.length > 1 ? `${facts.name}` : exhibit.title;
  const file = facts.file.startsWith(facts.name) ? "" : `${facts.file}, `;
  const of = exhibit.cases.length > 1 ? `${exhibit.title}: ${file}` : "";
  get("about").textContent = of + size + edges + more;
  get("title").title = facts.file;
  document.title = `${facts.name} – unetseg view`;
  const masks = facts.layers.map((layer) => layer.name).join(", ");
  const what = facts.kind === "volume" ? "Volume" : "Image";
  stage.setAttribute("aria-label", `${what} ${facts.name}${masks ? `, with ${masks}` : ""}`);
}

function fillCases() {
  get("cases").hidden = exhibit.cases.length < 2;
  const judged = exhibit.cases[0]?.scores[0]?.[0];
  get("order").textContent = judged ? `by ${judged}, worst first` : "";
  get("case-list").replaceChildren(...exhibit.cases.map((entry, k) => {
    const score = entry.scores[0];
    const text = score ? score[1]?.toFixed(3) ?? "–" : "";
    const all = entry.scores.map(([name, value]) => `${name} ${value?.toFixed(3) ?? "undefined"}`);
    return make("li", {}, make("button", { type: "button", value: String(k), title: all.join(", "),
      onclick: () => open(k) }, make("span", {}, entry.name), make("span", {}, text)));
  }));
}

// Keys

const LAYOUT_KEYS = ["all", "axial", "coronal", "sagittal", "render"];
const KEYS = [
  ["j k, or ↑ ↓ in the list", "next and previous case", () => exhibit.cases.length > 1],
  ["b", "blink between the masks", () => facts?.layers.length > 1],
  ["o", "masks filled or as outlines", () => facts?.layers.length],
  ["[ ]", "masks fainter or stronger", () => facts?.layers.length],
  ["r", "contrast as at the beginning", () => true],
  ["1 2 3 4 5", "all, axial (XY), coronal (XZ), sagittal (YZ), 3-D", () => kind === "volume"],
  ["← → ↑ ↓", "crosshair along X and Y; with Shift five voxels", () => kind === "volume"],
  ["Page ↑ ↓", "crosshair along Z", () => kind === "volume"],
  ["← → ↑ ↓", "move the image; with Shift further", () => kind === "image"],
  ["< >", "previous and next time point", () => facts?.times > 1],
  ["+ −", "zoom", () => true],
  ["0", "all of it", () => true],
  ["mouse", "wheel: zoom; drag: move", () => kind === "image"],
  ["mouse", "click: crosshair; wheel: slices; right drag: contrast", () => kind === "volume"],
  ["?", "these keys", () => true],
];

function step(by) {
  const next = current + by;
  if (next < 0 || next >= exhibit.cases.length) return;
  open(next);
  say(`Case ${next + 1} of ${exhibit.cases.length}: ${exhibit.cases[next].name}`);
}

function showKeys() {
  get("keys").replaceChildren(...KEYS.filter(([, , isNeeded]) => isNeeded()).flatMap(([key, text]) =>
    [make("dt", {}, make("kbd", {}, key)), make("dd", {}, text)]));
  get("help").showModal();
}

function time(by) {
  if (!(facts?.times > 1)) return;
  const next = (state.moment.time ?? 0) + by;
  if (next >= 0 && next < facts.times) act.moment({ ...state.moment, time: next });
}

const acts = {
  j: () => step(1), k: () => step(-1), b: act.blink, o: act.style, r: act.resetContrast,
  "?": showKeys, "<": () => time(-1), ">": () => time(1),
  "[": () => fade(-0.1), "]": () => fade(0.1),
};

function fade(by) {
  act.opacity(Math.min(1, Math.max(0, state.opacity + by)));
  refill();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || get("help").open || !facts) return;
  const { target, key } = event;
  // The viewer of volumes has keys of its own.
  if (target.closest?.("#stage") && key !== "Tab") event.stopPropagation();
  const isControl = target.closest?.("input, select");
  const isInList = target.closest?.("#case-list");
  if (isControl && (key.startsWith("Arrow") || key.startsWith("Page") || target.tagName === "SELECT")) return;
  let isDone = true;
  const isUpOrDown = key === "ArrowDown" || key === "ArrowUp";
  if (acts[key]) acts[key]();
  else if (kind === "volume" && LAYOUT_KEYS[+key - 1]) act.layout(LAYOUT_KEYS[+key - 1]);
  else if (isUpOrDown && exhibit.cases.length > 1 && !target.closest?.("#stage")) {
    step(key === "ArrowDown" ? 1 : -1);
    if (isInList) document.querySelector("#case-list [aria-current]")?.focus();
  } else isDone = view?.key(event) ?? false;
  if (isDone) event.preventDefault();
}, true);

get("help-button").addEventListener("click", showKeys);

try {
  exhibit = await readJson("cases.json");
  fillCases();
  await open(0);
} catch (error) {
  state.failed(error.message);
}
