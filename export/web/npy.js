// NumPy's .npy files: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html

const ARRAYS = {
  "|u1": Uint8Array,
  "<f4": Float32Array,
  "<i4": Int32Array,
  "<i8": BigInt64Array,
};

/**
 * Reads an array of versions 1 to 3 in C order.
 * @param {ArrayBuffer} buffer the whole file
 * @returns {{shape: number[], data: TypedArray}}
 */
export function readNpy(buffer) {
  const bytes = new Uint8Array(buffer);
  if (String.fromCharCode(...bytes.subarray(1, 6)) !== "NUMPY") {
    throw new Error("this is no .npy file");
  }
  const view = new DataView(buffer);
  const [lengthBytes, length] =
    bytes[6] === 1 ? [2, view.getUint16(8, true)] : [4, view.getUint32(8, true)];
  const start = 8 + lengthBytes + length;
  const header = new TextDecoder().decode(bytes.subarray(8 + lengthBytes, start));

  const type = /'descr': '([^']+)'/.exec(header)?.[1];
  const shape = /'shape': \(([^)]*)\)/.exec(header)?.[1].split(",").filter((size) => size.trim());
  const TypedArray = ARRAYS[type];
  if (!TypedArray || !shape || header.includes("'fortran_order': True")) {
    throw new Error(`an array of a kind that this page does not read: ${header.trim()}`);
  }
  return { shape: shape.map(Number), data: new TypedArray(buffer.slice(start)) };
}
