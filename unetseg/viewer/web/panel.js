// What is shown and how: the controls beside the image. Texts from files are text, never markup.

import { isOfBody } from "./volume.js";

/** An element with attributes, properties, and children that are elements or text. */
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key in element && key !== "list") element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

const keyed = (text, key) => [text + " ", make("kbd", {}, key)];

export function fillPanel(panel, facts, state, act) {
  // What has the focus keeps it.
  const focused = panel.contains(document.activeElement) ? document.activeElement.id : "";
  panel.replaceChildren(...[
    scenesAndTimes(facts, state, act), masks(facts, state, act), labels(facts, state, act),
    contrast(facts, state, act),
    facts.kind === "volume" ? layouts(facts, state, act) : zoom(act), notes(facts),
  ].filter(Boolean));
  if (focused) document.getElementById(focused)?.focus();
}

function section(title, ...children) {
  return make("section", { ariaLabel: title }, make("h2", {}, title), ...children);
}

/** act: on every step; later: only when the slider is let go. */
function range(text, attributes, shown, act, later) {
  const output = make("output", {}, shown(attributes.value));
  const slider = make("input", { type: "range", ...attributes, oninput: () => {
    output.textContent = shown(+slider.value);
    act?.(+slider.value);
  }, onchange: () => later?.(+slider.value) });
  // The limits must stand before the value that they would cut.
  slider.value = attributes.value;
  return make("label", { className: "range" }, text, slider, output);
}

function check(text, checked, change, swatch) {
  const box = make("input", { type: "checkbox", checked, onchange: () => change(box.checked) });
  return make("label", {}, box, swatch, text);
}

function select(id, text, options, value, change) {
  const list = make("select", { id, onchange: () => change(list.value) },
    ...options.map(([key, name]) => make("option", { value: key, selected: key === value }, name)));
  return make("label", {}, text, list);
}

function scenesAndTimes(facts, state, act) {
  if (facts.times < 2 && !facts.scenes.length) return null;
  const parts = [];
  if (facts.scenes.length) {
    parts.push(select("scene", "Scene", facts.scenes.map((name, k) => [String(k), name]),
      String(state.moment.scene), (value) => act.moment({ ...state.moment, scene: +value, time: 0 })));
  }
  if (facts.times > 1) {
    parts.push(range("Time", { min: 0, max: facts.times - 1, value: state.moment.time, id: "time" },
      (value) => `${value} / ${facts.times - 1}`, null,
      (value) => act.moment({ ...state.moment, time: value })));
  }
  return section("Moment", ...parts);
}

function masks(facts, state, act) {
  if (!facts.layers.length) return null;
  const several = facts.layers.length > 1;
  const boxes = facts.layers.map((layer, k) => check(layer.name, !state.off.has(k),
    (isOn) => act.layer(k, isOn), several ? sample(k) : null));
  const buttons = [
    make("button", { type: "button", id: "style", ariaPressed: String(state.style === "outlines"),
      onclick: act.style }, ...keyed("Outlines", "o")),
  ];
  if (several) {
    buttons.push(make("button", { type: "button", id: "blink", ariaPressed: String(state.isBlinking),
      onclick: act.blink }, ...keyed("Blink", "b")));
  }
  return section(several ? "Masks" : "Mask", ...boxes, make("div", { className: "row" }, ...buttons),
    range("Opacity", { min: 0, max: 100, value: Math.round(state.opacity * 100), id: "opacity" },
      (value) => `${value} %`, (value) => act.opacity(value / 100)));
}

/** How the outline of a mask looks: solid, or in dashes. */
function sample(layer) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const line = document.createElementNS(space, "line");
  const set = (element, attributes) =>
    Object.entries(attributes).forEach(([name, value]) => element.setAttribute(name, value));
  set(svg, { width: 26, height: 10, "aria-hidden": "true" });
  set(line, { x1: 0, x2: 26, y1: 5, y2: 5, stroke: "currentColor", "stroke-width": 2,
    "stroke-dasharray": ["none", "5 4", "2 3", "8 3"][layer % 4] });
  svg.append(line);
  return svg;
}

function labels(facts, state, act) {
  const known = new Map();
  for (const layer of facts.layers) for (const label of layer.labels) known.set(label.value, label);
  const parts = [];
  if (known.size) {
    const boxes = [...known.values()].sort((a, b) => a.value - b.value).map((label) => {
      const swatch = make("span", { className: "swatch" });
      swatch.style.background = `rgb(${label.colour})`;
      return check(label.name, !state.hidden.has(label.value),
        (isOn) => act.label(label.value, isOn), swatch);
    });
    parts.push(make("div", { className: "legend", tabIndex: boxes.length > 12 ? 0 : -1 }, ...boxes));
    if (boxes.length > 1) {
      parts.push(make("div", { className: "row" },
        make("button", { type: "button", id: "labels-all", onclick: () => act.labels(true) }, "All"),
        make("button", { type: "button", id: "labels-none", onclick: () => act.labels(false) }, "None")));
    }
  }
  if (facts.layers.some((layer) => layer.has_objects)) {
    parts.push(make("p", { className: "note" },
      "Each object has its own number; neighbours have different colours."));
  }
  return parts.length ? section("Labels", ...parts) : null;
}

function contrast(facts, state, act) {
  const parts = [];
  const names = facts.channels.map((channel, k) =>
    [String(k), /^\d+$/.test(channel.name) ? `channel ${channel.name}` : channel.name]);
  if (facts.is_picture) names.unshift(["colours", "colours"]);
  if (names.length > 1) {
    parts.push(select("channel", "Channel", names, String(state.channel),
      (value) => act.channel(value === "colours" ? value : +value)));
  }
  const { low, high, least, most } = state.contrast;
  const step = (most - least) / 500 || 1;
  const whole = facts.dtype !== "float32" && most - least > 20;
  const shown = (value) => whole ? String(Math.round(value)) : String(+value.toPrecision(3));
  for (const [text, id, value] of [["Black", "low", low], ["White", "high", high]]) {
    parts.push(range(text, { min: least, max: most, step: whole ? 1 : step, value, id }, shown,
      (changed) => act.contrast(id, changed)));
  }
  parts.push(make("div", { className: "row" },
    make("button", { type: "button", id: "reset", onclick: act.resetContrast },
      ...keyed("Reset contrast", "r"))));
  return section("Contrast", ...parts);
}

function layouts(facts, state, act) {
  const planes = isOfBody(facts) ? ["Axial", "Coronal", "Sagittal"] : ["XY", "XZ", "YZ"];
  const names = [["all", "All"], ["axial", planes[0]], ["coronal", planes[1]],
    ["sagittal", planes[2]], ["render", "3-D"]];
  return section("Layout", make("div", { className: "row" }, ...names.map(([name, text], k) =>
    make("button", { type: "button", id: `layout-${name}`, ariaPressed: String(state.layout === name),
      onclick: () => act.layout(name) }, ...keyed(text, String(k + 1))))));
}

function zoom(act) {
  return section("Zoom", make("div", { className: "row" },
    ...[["Larger", "+"], ["Smaller", "-"], ["All of it", "0"]].map(([text, key]) =>
      make("button", { type: "button", onclick: () => act.key(key) }, ...keyed(text, key)))));
}

function notes(facts) {
  return facts.notes.length
    ? section("Notes", ...facts.notes.map((note) => make("p", { className: "note" }, note))) : null;
}
