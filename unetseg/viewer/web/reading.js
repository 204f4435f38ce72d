// What the server has, as the page uses it.

const TYPES = {
  uint8: Uint8Array, uint16: Uint16Array, float32: Float32Array, int32: Int32Array,
};
// Of NIfTI, those that the server writes.
const NIFTI_TYPES = { 2: Uint8Array, 4: Int16Array, 8: Int32Array, 16: Float32Array, 512: Uint16Array };
const NIFTI_START = 352;

async function answer(path, signal) {
  const found = await fetch(path, { signal });
  if (!found.ok) throw new Error(await found.text());
  return found;
}

export const readJson = async (path) => (await answer(path)).json();

export const readBuffer = async (path, signal) => (await answer(path, signal)).arrayBuffer();

export const readArray = async (path, type, signal) => new TYPES[type](await readBuffer(path, signal));

/** The parts of an address behind "?" that say which moment of a case is meant. */
export function query(moment, channel) {
  const parts = Object.entries({ ...moment, channel }).filter(([, value]) => value !== undefined);
  return parts.length ? "?" + parts.map(([name, value]) => `${name}=${value}`).join("&") : "";
}

/** Header fields and voxels of a NIfTI-1 file as the server writes them. */
export function parseNifti(buffer) {
  const header = new DataView(buffer);
  const numbers = (offset, count) =>
    Array.from({ length: count }, (_, k) => header.getFloat32(offset + 4 * k, true));
  return {
    shape: [1, 2, 3].map((k) => header.getInt16(40 + 2 * k, true)),
    affine: [280, 296, 312].map((offset) => numbers(offset, 4)),
    high: header.getFloat32(124, true),
    low: header.getFloat32(128, true),
    voxels: new NIFTI_TYPES[header.getInt16(70, true)](buffer, NIFTI_START),
  };
}

/** The same file with bytes for voxels. */
export function withBytes(buffer, bytes) {
  const out = new Uint8Array(NIFTI_START + bytes.length);
  out.set(new Uint8Array(buffer, 0, NIFTI_START));
  out.set(bytes, NIFTI_START);
  const header = new DataView(out.buffer);
  header.setInt16(70, 2, true);
  header.setInt16(72, 8, true);
  header.setFloat32(124, 0, true);
  header.setFloat32(128, 0, true);
  return out.buffer;
}

/** A number for people: whole ones whole, others with four digits that count. */
export function shown(value) {
  if (Number.isInteger(value)) return String(value);
  const size = Math.abs(value);
  return size >= 1e5 || size < 1e-3 ? value.toExponential(3) : String(+value.toPrecision(4));
}
