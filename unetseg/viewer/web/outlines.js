// Outlines of labels along the edges of pixels, one device pixel wide, at any size.

/**
 * Straight pieces of the outlines in a grid of labels.
 *
 * values: rows of `stride` labels, of which the first `width` are the grid; with one more column
 *   or row than the grid (`stride`, `rows`), these are its neighbours to the right and below
 * colourOf: label -> number of its colour, negative for labels that are not shown
 * atLeft, atTop: nothing lies beyond, and what touches this side is closed there
 *
 * Returns a Map: colour -> [x0, y0, x1, y1, ...] along edges, x0 <= x1 and y0 <= y1.
 */
export function trace(values, { width, height, stride, rows, atLeft, atTop }, colourOf) {
  const found = new Map();
  const colours = new Map([[0, -1]]);
  const colour = (label) => {
    if (!colours.has(label)) colours.set(label, colourOf(label));
    return colours.get(label);
  };
  const add = (label, x0, y0, x1, y1) => {
    const number = colour(label);
    if (number < 0) return;
    if (!found.has(number)) found.set(number, []);
    found.get(number).push(x0, y0, x1, y1);
  };
  // Along lines of edges: `pairs` gives the labels on both sides, `piece` keeps a run of equals.
  const walk = (lines, length, isFirstOuter, isLastOuter, at, piece) => {
    for (let line = isFirstOuter ? 0 : 1; line <= lines; line++) {
      let start = 0, before = 0, behind = 0;
      for (let k = 0; k <= length; k++) {
        const a = k === length || line === 0 ? 0 : at(line - 1, k);
        const b = k === length || (line === lines && isLastOuter) ? 0 : at(line, k);
        const isEdge = k < length && a !== b;
        if (isEdge && a === before && b === behind) continue;
        if (before !== behind) {
          piece(before, line, start, k);
          piece(behind, line, start, k);
        }
        start = k;
        [before, behind] = isEdge ? [a, b] : [0, 0];
      }
    }
  };
  walk(height, width, atTop, rows === height, (y, x) => values[y * stride + x],
    (label, y, x0, x1) => label && add(label, x0, y, x1, y));
  walk(width, height, atLeft, stride === width, (x, y) => values[y * stride + x],
    (label, x, y0, y1) => label && add(label, x, y0, x, y1));
  return found;
}

// Device pixels that are drawn and left out: the first mask is solid, the others are told apart.
const DASHES = [null, [5, 4], [2, 3], [8, 3]];

/**
 * Draw traced pieces.
 *
 * frame: { x, y, dx, dy }, where the grid's corner lies and how large its pixels are, in device
 *   pixels
 * style: number of the mask, which chooses the dashes
 */
export function stroke(context, pieces, frame, colours, style) {
  const dash = DASHES[style % DASHES.length];
  context.lineWidth = 1;
  // Corners are whole pixels; dashes end where they end.
  context.lineCap = dash ? "butt" : "square";
  for (const [number, list] of pieces) {
    context.strokeStyle = colours(number);
    context.beginPath();
    for (let k = 0; k < list.length; k += 4) {
      // On whole device pixels, so that a line is one of them and not two half ones.
      const x0 = Math.round(frame.x + list[k] * frame.dx) + 0.5;
      const y0 = Math.round(frame.y + list[k + 1] * frame.dy) + 0.5;
      const x1 = Math.round(frame.x + list[k + 2] * frame.dx) + 0.5;
      const y1 = Math.round(frame.y + list[k + 3] * frame.dy) + 0.5;
      if (dash) dashed(context, x0, y0, x1, y1, dash);
      else {
        context.moveTo(x0, y0);
        context.lineTo(x1, y1);
      }
    }
    context.stroke();
  }
}

// Dashes hang on the place, not on the piece: pieces are often shorter than a dash.
function dashed(context, x0, y0, x1, y1, [on, off]) {
  const isFlat = y0 === y1;
  const ends = isFlat ? [x0, x1] : [y0, y1];
  const start = Math.min(...ends) - 0.5, end = Math.max(...ends) + 0.5;
  const period = on + off;
  const shift = (isFlat ? y0 : x0) - 0.5;
  const first = Math.floor((start + shift) / period) * period - shift;
  for (let at = first; at < end; at += period) {
    const a = Math.max(at, start), b = Math.min(at + on, end);
    if (a >= b) continue;
    context.moveTo(isFlat ? a : x0, isFlat ? y0 : a);
    context.lineTo(isFlat ? b : x0, isFlat ? y0 : b);
  }
}
