// A bar of a round length over a picture, where the size of its pixels is known.

const UNITS = { mm: "mm", um: "µm" };
// At most this share of the picture, and so many pixels of the page.
const SHARE = 0.25, MOST = 160;

/** Draws it in the lower left corner of a box of the canvas.
 *
 * perUnit : canvas pixels that a mm or a µm takes; box : left, top, width, height
 */
export function drawBar(context, perUnit, unit, [left, top, width, height]) {
  if (!UNITS[unit] || !(perUnit > 0)) return;
  const ratio = window.devicePixelRatio || 1;
  const most = Math.min(width * SHARE, MOST * ratio) / perUnit;
  const power = 10 ** Math.floor(Math.log10(most));
  const length = [5, 2, 1].find((step) => step * power <= most * (1 + 1e-9)) * power;
  // In the middle of a row of device pixels, or the line would be two faint ones.
  const x = left + 12 * ratio, y = Math.round(top + height - 12 * ratio) + 0.5;
  context.save();
  context.font = `${12 * ratio}px system-ui, sans-serif`;
  context.lineJoin = "round";
  const text = `${+length.toPrecision(1)} ${UNITS[unit]}`;
  // Light with a dark rim: it is seen on any picture.
  for (const [colour, rim] of [["#000", 3], ["#fff", 1]]) {
    context.strokeStyle = context.fillStyle = colour;
    context.lineWidth = Math.round(rim * ratio);
    context.beginPath();
    context.moveTo(x, y);
    context.lineTo(x + length * perUnit, y);
    context.stroke();
    if (rim > 1) context.strokeText(text, x, y - 6 * ratio);
    else context.fillText(text, x, y - 6 * ratio);
  }
  context.restore();
}
